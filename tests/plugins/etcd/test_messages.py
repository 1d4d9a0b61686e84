"""The messages of etcd's API."""

from __future__ import annotations

import pytest

from svcdns.plugins.etcd import messages
from svcdns.plugins.etcd.messages import Event, Header, KeyValue
from svcdns.wire.protobuf import ProtobufError, decode, encode

HEADER = encode(((1, 7), (2, 8), (3, 42), (4, 1)))
PAIR = encode(((1, b"key"), (2, 3), (3, 40), (4, 1), (5, b"value"), (6, 99)))


@pytest.mark.parametrize(("prefix", "end"), [(b"/a/", b"/a0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")])
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    """All keys with the prefix are before the end. The octet 0 stands for no end."""
    assert messages.range_end(prefix) == end


def test_requests() -> None:
    assert dict(decode(messages.range_request(b"a", b"b", 10, 5))) == {1: b"a", 2: b"b", 3: 10, 4: 5}
    ((number, create),) = decode(messages.watch_request(b"a", b"b", 6))
    assert isinstance(create, bytes)
    assert (number, dict(decode(create))) == (1, {1: b"a", 2: b"b", 3: 6, 4: 1, 8: 1})
    assert messages.authenticate_request("root", "x") == b"\x0a\x04root\x12\x01x"
    assert messages.time_to_live_request(300) == b"\x08\xac\x02"


def test_a_page() -> None:
    page = messages.page(encode(((1, HEADER), (2, PAIR), (3, 1), (4, 2))))
    assert page == messages.Page(Header(7, 42), (KeyValue(b"key", b"value", 40, 99),), more=True)
    assert messages.page(b"") == messages.Page(Header(), (), more=False)


def test_a_message_of_a_watch() -> None:
    put, deletion = encode(((2, PAIR),)), encode(((1, 1), (2, encode(((1, b"key"), (3, 41))))))
    found = messages.watch_response(encode(((1, HEADER), (3, 1), (7, 1), (11, put), (11, deletion))))
    assert (found.created, found.canceled, found.fragment) == (True, False, True)
    assert found.events == (
        Event(False, KeyValue(b"key", b"value", 40, 99)),
        Event(True, KeyValue(b"key", b"", 41, 0)),
    )
    refused = messages.watch_response(encode(((1, HEADER), (4, 1), (5, 12), (6, b"why"))))
    assert (refused.canceled, refused.compacted, refused.reason) == (True, 12, "why")


def test_other_replies() -> None:
    assert messages.token(encode(((1, HEADER), (2, b"abc")))) == "abc"
    assert messages.time_to_live(encode(((1, HEADER), (2, 5), (3, -1)))) == -1


@pytest.mark.parametrize("message", [b"\x12\x05ab", encode(((2, 1),)), encode(((1, encode(((3, b"x"),))),))])
def test_wrong_replies(message: bytes) -> None:
    """A cut-off message, and fields of wrong types."""
    with pytest.raises(ProtobufError):
        messages.page(message)
