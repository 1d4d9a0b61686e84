"""An entry of the cache, and the encoding in which a worker sends its entries to the worker that replaces it.

A simple reply (see wire/simple_reply.py) is stored as a packet, and decoded when it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.fast_path import Key
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import AA, AD, CD, RA, RD
from svcdns.wire.message import parse_message
from svcdns.wire.record import Record
from svcdns.wire.simple_reply import SimpleReply

_STORED_FLAGS: Final = AA | RD | RA | AD | CD

RecordFields = tuple[bytes, int, int, bytes, int]
"""A record's owner, type, TTL, RDATA and class."""


def encode(simple: SimpleReply) -> bytes:
    """Encodes a simple reply (only addresses or a denial) as a packet without an OPT record."""
    packet, end = simple.packet, simple.end
    return packet if end == len(packet) else packet[:10] + b"\0\0" + packet[12:end]


def decode(packet: bytes, dependencies: tuple[Dependency, ...] = ()) -> Reply:
    """Decodes a packet that `encode` made. The reply has the given dependencies."""
    message = parse_message(packet)
    flags = message.flags & _STORED_FLAGS
    return Reply(message.flags & 15, flags, message.answer, message.authority, dependencies=dependencies)


class Entry(msgspec.Struct):
    """A stored reply.

    - `content` is a reply object, or the packet of a simple reply (only addresses or a denial).
    - `stored` is the time at which the reply was stored, on the cache's clock. `lifetime` is in seconds.
    - `is_answer` is true if the reply answers the query. If `is_answer` is false, `last_answer` is an earlier entry
      with an answer.
    - `hits` counts the hits. The count begins again after a long pause (see `Prefetch`). `last_hit` is the time of the
      last hit.
    - `refresh` is the task of the refresh that is running. No refresh starts before the time `retry_after`.
    - `octets` is the memory that the entry takes.
    - `packet_dependencies` has the dependencies of a reply that is stored as a packet.
    """

    content: Reply | bytes
    stored: float
    lifetime: int
    is_answer: bool = True
    last_answer: Entry | None = None
    hits: int = 0
    last_hit: float = float("-inf")
    refresh: asyncio.Task[Any] | None = None
    retry_after: float = float("-inf")
    octets: int = 0
    packet_dependencies: tuple[Dependency, ...] = ()

    @property
    def reply(self) -> Reply:
        """Returns the reply. A reply that is stored as a packet is decoded at each call."""
        content = self.content
        return decode(content, self.packet_dependencies) if isinstance(content, bytes) else content

    @property
    def rcode(self) -> int:
        """Returns the reply's response code."""
        content = self.content
        return content[3] & 15 if isinstance(content, bytes) else content.rcode

    @property
    def dependencies(self) -> Collection[Dependency]:
        """Returns the data that the reply and `last_answer` were made from, without duplicates."""
        own = self.packet_dependencies if isinstance(self.content, bytes) else self.content.dependencies
        return own if self.last_answer is None else {*own, *self.last_answer.dependencies}

    def remaining(self, now: float) -> int:
        """Returns the whole seconds until the entry expires. The result is 0 or negative if the entry has expired."""
        return self.lifetime - int(now - self.stored)


class WireEntry(msgspec.Struct, array_like=True):
    """The encoded form of a cache entry, in which a worker sends the entry to another worker.

    `age` is the number of seconds since the entry was stored. The number of hits is not sent.
    """

    key: Key
    rcode: int
    flags: int
    sections: tuple[tuple[RecordFields, ...], tuple[RecordFields, ...], tuple[RecordFields, ...]]
    age: float
    lifetime: int
    is_answer: bool

    @classmethod
    def encode(cls, key: Key, entry: Entry, now: float) -> bytes:
        """Returns the encoded entry, with its age at the time `now`."""
        reply = entry.reply
        sections = _fields(reply.answer), _fields(reply.authority), _fields(reply.additional)
        age = now - entry.stored
        return msgspec.msgpack.encode(
            cls(key, reply.rcode, reply.flags, sections, age, entry.lifetime, entry.is_answer)
        )

    def decode(self, now: float) -> tuple[Key, Entry]:
        """Returns the key and the entry. `now` is the present time in seconds on this worker's clock."""
        answer, authority, additional = (tuple([Record(*fields) for fields in section]) for section in self.sections)
        reply = Reply(self.rcode, self.flags, answer, authority, additional)
        return self.key, Entry(reply, now - self.age, self.lifetime, self.is_answer)


def _fields(records: tuple[Record, ...]) -> tuple[RecordFields, ...]:
    return tuple([(r.owner, r.rtype, r.ttl, r.rdata, r.rclass) for r in records])
