"""An entry of the cache, and its wire form, in which it travels to the worker that takes this one's place.

A simple reply (`svcdns.wire.simple_reply`) is stored as its packet and decoded when it is used, for most entries are
never used again.
"""

from __future__ import annotations

import asyncio
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
    """The packet that is stored of a simple reply: all of it but the OPT record."""
    packet, end = simple.packet, simple.end
    return packet if end == len(packet) else packet[:10] + b"\0\0" + packet[12:end]


def decode(packet: bytes) -> Reply:
    """The reply that `encode` made this packet from."""
    message = parse_message(packet)
    return Reply(message.flags & 15, message.flags & _STORED_FLAGS, message.answer, message.authority)


class Entry(msgspec.Struct):
    """A stored reply. `content` is a reply, or the packet of a simple one.

    `stored` is the time on the cache's clock, `lifetime` is in whole seconds. `is_answer` is true if the reply has an
    answer to the query; `last_answer` is an older entry that had one, kept beside one that has not. The other fields
    change: `hits` without too long a gap, the last one at `last_hit`; the `refresh` under way; `retry_after`, the time
    before which no other refresh is tried; `octets` of memory.
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

    @property
    def reply(self) -> Reply:
        """The reply; of a simple one, a new object each time."""
        content = self.content
        return decode(content) if isinstance(content, bytes) else content

    @property
    def rcode(self) -> int:
        """The reply's response code."""
        content = self.content
        return content[3] & 15 if isinstance(content, bytes) else content.rcode

    @property
    def has_no_dependencies(self) -> bool:
        """True if the entry certainly depends on nothing; cheaper than `dependencies`."""
        return isinstance(self.content, bytes) and self.last_answer is None

    @property
    def dependencies(self) -> set[Dependency]:
        """The dependencies of the reply, and of `last_answer`."""
        own = () if isinstance(self.content, bytes) else self.content.dependencies
        return {*own, *(self.last_answer.dependencies if self.last_answer is not None else ())}

    def remaining(self, now: float) -> int:
        """The whole seconds that are left, as the TTLs show them; 0 or less when the entry has expired."""
        return self.lifetime - int(now - self.stored)


class WireEntry(msgspec.Struct, array_like=True):
    """The wire form of an entry.

    `age` is in seconds, for the other worker's clock may differ. Fields that change are left out.
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
        """The octets of an entry."""
        reply = entry.reply
        sections = _fields(reply.answer), _fields(reply.authority), _fields(reply.additional)
        age = now - entry.stored
        return msgspec.msgpack.encode(
            cls(key, reply.rcode, reply.flags, sections, age, entry.lifetime, entry.is_answer)
        )

    def decode(self, now: float) -> tuple[Key, Entry]:
        """The entry, with its key."""
        answer, authority, additional = (tuple([Record(*fields) for fields in section]) for section in self.sections)
        reply = Reply(self.rcode, self.flags, answer, authority, additional)
        return self.key, Entry(reply, now - self.age, self.lifetime, self.is_answer)


def _fields(records: tuple[Record, ...]) -> tuple[RecordFields, ...]:
    return tuple([(r.owner, r.rtype, r.ttl, r.rdata, r.rclass) for r in records])
