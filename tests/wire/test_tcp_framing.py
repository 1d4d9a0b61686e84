"""DNS messages on a byte stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire.tcp_framing import framed, has_message, take_message


@given(st.lists(st.binary(max_size=70), max_size=5), st.integers(1, 20))
def test_messages_come_out_as_they_went_in(messages: list[bytes], size: int) -> None:
    """Messages are found in a stream whatever the sizes of the pieces in which it arrives."""
    stream, received, found = b"".join(map(framed, messages)), bytearray(), []
    for at in range(0, len(stream), size):
        received += stream[at : at + size]
        while (message := take_message(received)) is not None:
            found.append(message)
    assert found == messages
    assert received == b""


def test_an_incomplete_message_stays() -> None:
    """An incomplete message stays in the buffer until the rest arrives."""
    received = bytearray(framed(b"abc")[:-1])
    assert take_message(received) is None
    assert not has_message(received)
    received += b"c"
    assert has_message(received)
    assert take_message(received) == b"abc"


def test_the_length_is_in_network_order() -> None:
    """The length is two octets, the higher one first."""
    assert framed(bytes(258))[:2] == b"\1\2"
