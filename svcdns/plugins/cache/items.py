"""An entry of the cache: a reply with the moment it was stored; and the same as octets, for the cache of another worker."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from svcdns.wire.reply import Owner, Record, Reply

Key = tuple[bytes, int, int, bool, bool]
"""Lowered name, type, class, DO bit, CD bit."""

Flat = tuple[bytes, int, int, bytes, int]
"""A record's owner, type, TTL, RDATA and class."""


class Item(msgspec.Struct):
    """A stored reply: `stored` on the cache's clock, `lifetime` in whole seconds.

    `answering` says that it answers its question; `good` is an older one that did, kept beside one that does not. The rest changes:
    `hits` without too long a gap up to `seen`, the refresh that is under way, and the time before which none is to be tried again.
    `octets` is what it takes in memory.
    """

    reply: Reply
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
    def owners(self) -> set[Owner]:
        """All facts that it rests on."""
        return {*self.reply.owners, *(self.good.reply.owners if self.good is not None else ())}

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
