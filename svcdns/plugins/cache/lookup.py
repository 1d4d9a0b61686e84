"""What goes into the stores of a cache, and what is found there (docs/behaviour/plugins.md#cache, RFC 2308, RFC 8767).

An answer that rests on the cluster alone never goes in: it lives until the cluster changes, and its TTL does not count down. What is
remembered of it is how the first client spelled the name: for as long as CoreDNS would keep the answer, others get it spelled so.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Final, NamedTuple

import msgspec
from cachetools import LRUCache

from svcdns.cluster.changes import Dependency
from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.fast_path import Key
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Increment, Reply
from svcdns.plugin_api.reply_type import MessageType
from svcdns.plugins.cache.belonging import of_the_question
from svcdns.plugins.cache.cacheability import DENIALS, UNSTORED, answers, is_answer, kind_of, may_keep
from svcdns.plugins.cache.entry import Item, closed
from svcdns.plugins.cache.metrics import Cells
from svcdns.plugins.cache.options import MIN_TTL, Options
from svcdns.plugins.cache.refresh import Asked, Taken
from svcdns.plugins.cache.store import Store
from svcdns.wire import names
from svcdns.wire.codes import AD, TC, Rcode
from svcdns.wire.record import Record
from svcdns.wire.simple_reply import SimpleReply

_FAILURES: Final = (Rcode.SERVFAIL, Rcode.NOTIMP)


class Spelling(NamedTuple):
    """A name as it was asked for, and the end of the time in which answers of the cluster have it so."""

    name: bytes
    until: float


class Keeper:
    """Puts replies into the two stores of a cache and finds them again."""

    def __init__(self, options: Options, success: Store, denial: Store, clock: Clock) -> None:
        """Lifetimes are on the clock."""
        self._options, self._stale, self._clock = options, options.stale, clock
        self._success, self._denial = success, denial
        self._spellings: LRUCache[Key, Spelling] = LRUCache(options.success.capacity)
        self.changes = 0
        """Grows with every change that `invalidate` is told: what was asked for before it and rests on facts is not kept."""
        self.no_success, self._no_denial = wire(options.no_success), wire(options.no_denial)

    def invalidate(self, dependencies: set[Dependency]) -> None:
        """Drops what rests on one of the owners."""
        self.changes += 1
        self._success.invalidate(dependencies)
        self._denial.invalidate(dependencies)

    def never_stores(self, key: bytes) -> bool:
        """Whether nothing is ever stored for a lowered name."""
        return covered(key, self._no_denial) and covered(key, self.no_success)

    def spelling(self, asked: Asked) -> Spelling | None:
        """How others get the name of an answer of the cluster; None where nobody has asked for it yet, or long ago."""
        if not self._spellings:
            return None
        found: Spelling | None = self._spellings.get(asked.key)
        return found if found is not None and found.until > asked.now else None

    def find(self, key: Key, now: float) -> tuple[str, Item] | None:
        """Denials come first, but for a kept SERVFAIL where there is an answer, and with `prefer_positive`."""
        if self._stale.prefer_positive and self._stale.up_to > 0:
            good = self._usable("success", key, now)
            if good is not None and not good.answering:
                good = good.good if good.good is not None and self._in_time(good.good, now) else None
            if good is not None:
                return "success", good
        denial = self._usable("denial", key, now)
        if denial is not None and denial.rcode != Rcode.SERVFAIL:
            return "denial", denial
        success = self._usable("success", key, now)
        if success is not None:
            return "success", success
        return None if denial is None else ("denial", denial)

    def _usable(self, which: str, key: Key, now: float) -> Item | None:
        denial = which == "denial"
        store, disabled = (self._denial, self._no_denial) if denial else (self._success, self.no_success)
        item = store.get(key)
        if item is None:
            return None
        item.lifetime = min(item.lifetime, self._longest(item, denial=denial))
        in_time = self._in_time(item, now) or (item.good is not None and self._in_time(item.good, now))
        if not in_time or (disabled and covered(key[0], disabled)):
            store.drop(key)
            return None
        return item

    def _longest(self, item: Item, *, denial: bool) -> int:
        """The longest lifetime of such an entry: one of the time before a reload may have more."""
        if not denial:
            return self._options.success.longest
        return int(self._options.servfail) if item.rcode in _FAILURES else self._options.denial.longest

    def _in_time(self, item: Item, now: float) -> bool:
        """Whether the entry may be served, stale or not."""
        return item.remaining(now) > -self._stale.span if self._stale.up_to else item.remaining(now) > 0

    def take(self, asked: Asked, reply: Reply) -> Taken:
        """Keeps a reply if it may be kept, and bounds its TTLs."""
        if reply.dropped or not reply.has_message:
            return Taken(reply, None)
        query, key = asked.query, asked.key
        kind = kind_of(query, reply)
        lifetime = self._lifetime(reply, kind)
        increments = reply.increments
        item = None
        if _is_of_cluster(reply):
            stores = self._stores(query.key, kind)
            increments += _increments_of_cluster_answer(asked.cells, kind if stores else MessageType.OTHERERROR)
            if stores and lifetime > 0 and may_keep(query, reply, kind) and self.spelling(asked) is None:
                self._spellings[key] = Spelling(query.name, asked.now + lifetime)
        else:
            item = self._kept(asked, reply, kind, lifetime)
        flags = reply.flags if query.flags & AD or query.dnssec_ok else reply.flags & ~AD
        return Taken(msgspec.structs.replace(with_ttl(reply, lifetime), flags=flags, edns=None, increments=increments), item)

    def knows(self, key: Key) -> bool:
        """Whether a question may be answered, or spelled, by what is kept."""
        return key in self._success.items or key in self._denial.items or key in self._spellings

    def take_plain(self, key: Key, plain: SimpleReply) -> int:
        """Keeps a plain reply that came the short way, by the rules of `take`; the TTL of its records from now on."""
        denial = plain.is_denial
        bounds = self._options.denial if denial else self._options.success
        lifetime = min(bounds.longest, max(bounds.shortest, plain.ttl))
        if lifetime > 0:
            self._keep(key, Item(closed(plain), self._clock(), lifetime, not denial), denial=denial)
        return lifetime

    def take_fresh(self, asked: Asked, reply: Reply) -> Taken | None:
        """The same for what may take the place of an entry that has ended: other replies leave it (RFC 8767 §4)."""
        if reply.dropped or not reply.has_message or reply.flags & TC:
            return None
        if self._stale.prefer_positive:
            taken = self.take(asked, reply)
            return taken if is_answer(asked.query, reply) else None
        if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN) or kind_of(asked.query, reply) in UNSTORED:
            return None
        if _is_of_cluster(reply):
            self._success.drop(asked.key)
            self._denial.drop(asked.key)
        return self.take(asked, reply)

    def take_in_background(self, old: Item, *, judged: bool = False) -> Callable[[Asked, Reply], Taken | None]:
        """The same for a refresh that no client waits for: the new entry goes on with the old one's hits."""

        def take(asked: Asked, reply: Reply) -> Taken | None:
            taken = self.take_fresh(asked, reply) if judged else self.take(asked, reply)
            if taken is not None and taken.item is not None:
                taken.item.hits, taken.item.seen = old.hits, asked.now
            return taken

        return take

    def _kept(self, asked: Asked, reply: Reply, kind: MessageType, lifetime: int) -> Item | None:
        """Stores what of a reply belongs to its question, if the reply may be kept, and is still of its kind."""
        if lifetime <= 0 or not self._may_keep(asked, reply, kind):
            return None
        kept = of_the_question(asked.query, reply)
        if kept is not reply:
            if kind_of(asked.query, kept) != kind or not may_keep(asked.query, kept, kind):
                return None
            lifetime = min(lifetime, self._lifetime(kept, kind))
        kept = msgspec.structs.replace(kept, edns=None, increments=(), extended=None, source="")
        item = Item(kept, self._clock(), lifetime, answers(asked.query, kept))
        self._keep(asked.key, item, denial=_is_denial(kind))
        return item

    def _may_keep(self, asked: Asked, reply: Reply, kind: MessageType) -> bool:
        if reply.scope is not CacheScope.SHARED or (reply.dependencies and asked.changes != self.changes):
            return False
        return may_keep(asked.query, reply, kind) and self._stores(asked.query.key, kind)

    def _keep(self, key: Key, item: Item, *, denial: bool) -> None:
        if denial:
            self._denial.put(key, item)
            return
        if self._stale.prefer_positive and not item.answering:
            before = self._success.get(key)
            if before is not None:
                item.good = before if before.answering else before.good
        else:
            self._denial.drop(key)
        self._success.put(key, item)

    def _lifetime(self, reply: Reply, kind: MessageType) -> int:
        """Whole seconds that the reply may be kept: its smallest TTL within the bounds of its class."""
        if kind == MessageType.SERVERERROR:
            return int(self._options.servfail)
        bounds = self._options.denial if kind in DENIALS else self._options.success
        records = (*reply.answer, *reply.authority, *reply.additional)
        smallest = MIN_TTL
        if records and kind in (MessageType.NOERROR, *DENIALS):
            smallest = min([record.ttl for record in records])
        return min(bounds.longest, max(bounds.shortest, smallest))

    def _stores(self, key: bytes, kind: MessageType) -> bool:
        """Whether replies of that kind are stored in the name's zone."""
        return not covered(key, self._no_denial if _is_denial(kind) else self.no_success)


def _increments_of_cluster_answer(cells: Cells, kind: MessageType) -> tuple[Increment, ...]:
    """What CoreDNS would count for the next such query: a miss where replies of that kind are not stored, else a hit."""
    if kind in UNSTORED:
        return ((cells.requests, 1.0), (cells.misses, 1.0))
    return ((cells.requests, 1.0), (cells.hits["denial" if kind in DENIALS else "success"], 1.0))


def _is_of_cluster(reply: Reply) -> bool:
    """Whether it rests on facts alone whose change is told."""
    return bool(reply.dependencies) and reply.lifetime == UNTIL_CHANGED


def _is_denial(kind: MessageType) -> bool:
    return kind in (*DENIALS, MessageType.SERVERERROR)


def with_ttl(reply: Reply, ttl: int) -> Reply:
    """The reply with this TTL in every record, those of a transfer as they are made."""

    def section(records: tuple[Record, ...]) -> tuple[Record, ...]:
        return tuple([r if r.ttl == ttl else Record(r.owner, r.rtype, ttl, r.rdata, r.rclass) for r in records])

    if reply.stream is None and {r.ttl for r in (*reply.answer, *reply.authority, *reply.additional)} <= {ttl}:
        return reply
    return msgspec.structs.replace(
        reply,
        answer=section(reply.answer),
        authority=section(reply.authority),
        additional=section(reply.additional),
        stream=None if reply.stream is None else _stamped(reply.stream, ttl),
    )


def _stamped(stream: Generator[Iterable[Record], None, None], ttl: int) -> Generator[Iterable[Record], None, None]:
    with closing(stream):
        for portion in stream:
            yield (Record(r.owner, r.rtype, ttl, r.rdata, r.rclass) for r in portion)


def wire(zones: tuple[str, ...]) -> tuple[bytes, ...]:
    """Zones as lowered wire names."""
    return tuple(names.from_text(zone).lower() for zone in zones)


def covered(key: bytes, zones: tuple[bytes, ...]) -> bool:
    """Whether the lowered name lies in one of the zones."""
    for zone in zones:  # noqa: SIM110 - twice as fast as any(), and every question comes here
        if names.is_within(key, zone):
            return True
    return False
