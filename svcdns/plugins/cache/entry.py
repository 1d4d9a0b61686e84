"""An entry of the cache: a reply with the moment it was stored; and the same as octets, for the cache of another worker.

A plain reply (`svcdns.wire.simple_reply`) is kept as the octets that came, and read when it is used: most are never asked for again."""

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

_KEPT: Final = AA | RD | RA | AD | CD

Flat = tuple[bytes, int, int, bytes, int]
"""A record's owner, type, TTL, RDATA and class."""


def closed(plain: SimpleReply) -> bytes:
    """The octets that are kept of a plain reply: all but its OPT."""
    packet, end = plain.packet, plain.end
    return packet if end == len(packet) else packet[:10] + b"\0\0" + packet[12:end]


def opened(packet: bytes) -> Reply:
    """The reply that was kept so."""
    message = parse_message(packet)
    return Reply(message.flags & 15, message.flags & _KEPT, message.answer, message.authority)


class Item(msgspec.Struct):
    """A stored reply, as a reply or as the octets of a plain one: `stored` on the cache's clock, `lifetime` in whole seconds.

    `answering` says that it answers its question; `good` is an older one that did, kept beside one that does not. The rest changes:
    `hits` without too long a gap up to `seen`, the refresh that is under way, and the time before which none is to be tried again.
    `octets` is what it takes in memory.
    """

    kept: Reply | bytes
    stored: float
    lifetime: int
    answering: bool = True
    good: Item | None = None
    hits: int = 0
    seen: float = float("-inf")
    refresh: asyncio.Task[Any] | None = None
    retry: float = float("-inf")
    octets: int = 0

    @property
    def reply(self) -> Reply:
        """The reply; of a plain one, a new object each time."""
        kept = self.kept
        return opened(kept) if isinstance(kept, bytes) else kept

    @property
    def rcode(self) -> int:
        """The reply's."""
        kept = self.kept
        return kept[3] & 15 if isinstance(kept, bytes) else kept.rcode

    @property
    def is_of_nothing(self) -> bool:
        """Whether it surely rests on no fact."""
        return isinstance(self.kept, bytes) and self.good is None

    @property
    def dependencies(self) -> set[Dependency]:
        """All facts that it rests on."""
        mine = () if isinstance(self.kept, bytes) else self.kept.dependencies
        return {*mine, *(self.good.dependencies if self.good is not None else ())}

    def remaining(self, now: float) -> int:
        """Whole seconds that are left, as every TTL shows them; 0 or less when it is over."""
        return self.lifetime - int(now - self.stored)


class Parcel(msgspec.Struct, array_like=True):
    """An entry on its way to another worker, whose clock may be another one: `age` is in seconds. What changes of it stays behind."""

    key: Key
    rcode: int
    flags: int
    sections: tuple[tuple[Flat, ...], tuple[Flat, ...], tuple[Flat, ...]]
    age: float
    lifetime: int
    answering: bool

    @classmethod
    def of(cls, key: Key, item: Item, now: float) -> bytes:
        """The octets of an entry."""
        reply = item.reply
        sections = _flat(reply.answer), _flat(reply.authority), _flat(reply.additional)
        return msgspec.msgpack.encode(cls(key, reply.rcode, reply.flags, sections, now - item.stored, item.lifetime, item.answering))

    def opened(self, now: float) -> tuple[Key, Item]:
        """The entry."""
        answer, authority, additional = (tuple([Record(*flat) for flat in section]) for section in self.sections)
        reply = Reply(self.rcode, self.flags, answer, authority, additional)
        return self.key, Item(reply, now - self.age, self.lifetime, self.answering)


def _flat(records: tuple[Record, ...]) -> tuple[Flat, ...]:
    return tuple([(r.owner, r.rtype, r.ttl, r.rdata, r.rclass) for r in records])
