"""The messages of etcd's API (https://etcd.io/docs/v3.5/learning/api/) that the plugin needs, in protobuf form.

Only the fields that the plugin reads are decoded. All functions that decode raise ProtobufError.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from svcdns.wire.protobuf import Field, ProtobufError, decode, encode, signed

RANGE: Final = "/etcdserverpb.KV/Range"
WATCH: Final = "/etcdserverpb.Watch/Watch"
AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"
TIME_TO_LIVE: Final = "/etcdserverpb.Lease/LeaseTimeToLive"


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a response: the cluster that sent it, and the revision of the cluster's data."""

    cluster: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value. `lease` is the number of its lease, or 0. `revision` is that of its last change."""

    key: bytes = b""
    value: bytes = b""
    revision: int = 0
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the keys of a range. If `more` is true, the range has further keys after this part."""

    header: Header
    pairs: tuple[KeyValue, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a key. If `deleted` is true, the key is gone, and `pair` has no value."""

    deleted: bool
    pair: KeyValue


@dataclass(frozen=True, slots=True)
class WatchResponse:
    """A message of a watch.

    `compacted` is not 0 if the events from the wanted revision on are gone. `fragment` is True if the rest of the
    events follows in another message.
    """

    header: Header
    created: bool
    canceled: bool
    compacted: int
    reason: str
    fragment: bool
    events: tuple[Event, ...]


def range_end(prefix: bytes) -> bytes:
    """Returns the end of the range of all keys that begin with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else b"\0"


def range_request(start: bytes, end: bytes, limit: int, revision: int) -> bytes:
    """Returns a request for at most `limit` keys from `start` to `end`, as of `revision`; 0 means the newest."""
    return encode(((1, start), (2, end), (3, limit), (4, revision)))


def watch_request(start: bytes, end: bytes, revision: int) -> bytes:
    """Returns a request for the events of a range from `revision` on, in messages of limited size."""
    progress_notify, fragment = 1, 1
    create = encode(((1, start), (2, end), (3, revision), (4, progress_notify), (8, fragment)))
    return encode(((1, create),))


def authenticate_request(user: str, password: str) -> bytes:
    """Returns a request for the token of a user."""
    return encode(((1, user.encode()), (2, password.encode())))


def time_to_live_request(lease: int) -> bytes:
    """Returns a request for the remaining time of a lease."""
    return encode(((1, lease),))


def page(message: bytes) -> Page:
    """Decodes the response to a range request."""
    fields = list(decode(message))
    return Page(_header(fields), tuple(_pair(one) for one in _all(fields, 2)), bool(_number(fields, 3)))


def watch_response(message: bytes) -> WatchResponse:
    """Decodes a message of a watch."""
    fields = list(decode(message))
    return WatchResponse(
        _header(fields),
        created=bool(_number(fields, 3)),
        canceled=bool(_number(fields, 4)),
        compacted=signed(_number(fields, 5)),
        reason=_text(fields, 6),
        fragment=bool(_number(fields, 7)),
        events=tuple(_event(one) for one in _all(fields, 11)),
    )


def token(message: bytes) -> str:
    """Returns the token in the response to `authenticate_request`."""
    return _text(list(decode(message)), 2)


def time_to_live(message: bytes) -> int:
    """Returns the remaining seconds of a lease; -1 if there is no such lease."""
    return signed(_number(list(decode(message)), 3))


def _event(message: bytes) -> Event:
    fields = list(decode(message))
    return Event(bool(_number(fields, 1)), _pair(_octets(fields, 2)))


def _pair(message: bytes) -> KeyValue:
    fields = list(decode(message))
    return KeyValue(_octets(fields, 1), _octets(fields, 5), signed(_number(fields, 3)), signed(_number(fields, 6)))


def _header(fields: Iterable[Field]) -> Header:
    own = list(decode(_octets(fields, 1)))
    return Header(_number(own, 1), signed(_number(own, 3)))


def _all(fields: Iterable[Field], number: int) -> list[bytes]:
    out = []
    for found, value in fields:
        if found == number:
            if not isinstance(value, bytes):
                raise ProtobufError(f"field {number} is a number; octets were expected")
            out.append(value)
    return out


def _octets(fields: Iterable[Field], number: int) -> bytes:
    found = _all(fields, number)
    return found[-1] if found else b""


def _text(fields: Iterable[Field], number: int) -> str:
    return _octets(fields, number).decode(errors="replace")


def _number(fields: Iterable[Field], number: int) -> int:
    out = 0
    for found, value in fields:
        if found == number:
            if not isinstance(value, int):
                raise ProtobufError(f"field {number} has octets; a number was expected")
            out = value
    return out
