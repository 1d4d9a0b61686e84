"""Finding DNS messages in a byte stream (RFC 1035 §4.2.2)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire.tcp_framing import framed, has_message, take_message


@given(st.lists(st.binary(max_size=70), max_size=5), st.integers(1, 20))
def test_messages_do_not_depend_on_how_the_stream_is_cut(messages: list[bytes], size: int) -> None:
    stream, received, found = b"".join(map(framed, messages)), bytearray(), []
    for at in range(0, len(stream), size):
        received += stream[at : at + size]
        while (message := take_message(received)) is not None:
            found.append(message)
    assert found == messages
    assert received == b""


def test_an_incomplete_message_stays_in_the_buffer() -> None:
    received = bytearray(framed(b"abc")[:-1])
    assert take_message(received) is None
    assert not has_message(received)
    received += b"c"
    assert has_message(received)
    assert take_message(received) == b"abc"


def test_the_length_is_in_network_order() -> None:
    assert framed(bytes(258))[:2] == b"\1\2"
