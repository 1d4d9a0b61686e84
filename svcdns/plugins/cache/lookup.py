"""Stores replies in the two stores of a cache, and finds them again (docs/behaviour/plugins.md#cache).

An answer that depends only on cluster data is not stored. For such an answer, the module stores only the letter case of
the first client's query name, as long as CoreDNS would cache the answer. Later clients get the name in this letter
case.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Final

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.fast_path import Key
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, CacheScope, Increment, Reply
from svcdns.plugin_api.reply_type import MessageType
from svcdns.plugins.cache.cacheability import (
    DENIALS,
    NEVER_CACHED,
    has_answer,
    is_answer,
    is_cacheable,
    message_type,
    without_unrelated_records,
)
from svcdns.plugins.cache.entry import Entry, encode
from svcdns.plugins.cache.metrics import Cells
from svcdns.plugins.cache.options import MIN_TTL, Options
from svcdns.plugins.cache.refresh import Lookup, Stored
from svcdns.plugins.cache.spellings import Spelling, Spellings
from svcdns.plugins.cache.store import Store
from svcdns.wire import names
from svcdns.wire.codes import AD, TC, Rcode
from svcdns.wire.edns import subnet_scope
from svcdns.wire.record import Record
from svcdns.wire.simple_reply import SimpleReply

_FAILURES: Final = (Rcode.SERVFAIL, Rcode.NOTIMP)


class CachedReplies:
    """The two stores of a cache: one for answers and one for denials."""

    def __init__(self, options: Options, success: Store, denial: Store, clock: Clock) -> None:
        """`success` is the store for answers, and `denial` the store for denials.

        `clock` measures the lifetimes of entries.
        """
        self._options, self._stale, self._clock = options, options.stale, clock
        self._success, self._denial = success, denial
        self._spellings = Spellings(options.success.capacity)
        self.changes = 0
        """The number of calls of `invalidate`.

        A reply with dependencies is not stored if this number has grown since its query arrived.
        """
        self.no_success, self._no_denial = wire_names(options.no_success), wire_names(options.no_denial)

    def invalidate(self, dependencies: set[Dependency]) -> None:
        """Removes the entries that were made from one of the objects in `dependencies`."""
        self.changes += 1
        self._success.invalidate(dependencies)
        self._denial.invalidate(dependencies)

    def never_stores(self, key: bytes) -> bool:
        """Returns True if the options forbid storing any reply for the lower-case name `key`."""
        return within_any(key, self._no_denial) and within_any(key, self.no_success)

    def spelling(self, lookup: Lookup) -> Spelling | None:
        """Returns the stored letter case of the query name, or None."""
        return self._spellings.get(lookup.key, lookup.now)

    def find(self, key: Key, now: float) -> tuple[str, Entry] | None:
        """Returns the stored entry for a query, and the name of its store. Returns None if there is no entry.

        A denial is preferred to an answer, unless the denial is a SERVFAIL or the option `prefer_positive` is set.
        """
        if self._stale.prefer_positive and self._stale.up_to > 0:
            answer = self._usable("success", key, now)
            if answer is not None and not answer.is_answer:
                older = answer.last_answer
                answer = older if older is not None and self._in_time(older, now) else None
            if answer is not None:
                return "success", answer
        denial = self._usable("denial", key, now)
        if denial is not None and denial.rcode != Rcode.SERVFAIL:
            return "denial", denial
        success = self._usable("success", key, now)
        if success is not None:
            return "success", success
        return None if denial is None else ("denial", denial)

    def _usable(self, which: str, key: Key, now: float) -> Entry | None:
        denial = which == "denial"
        store, disabled = (self._denial, self._no_denial) if denial else (self._success, self.no_success)
        entry = store.get(key)
        if entry is None:
            return None
        entry.lifetime = min(entry.lifetime, self._max_lifetime(entry, denial=denial))
        if not self.may_serve(entry, now) or (disabled and within_any(key[0], disabled)):
            store.remove(key)
            return None
        return entry

    def _max_lifetime(self, entry: Entry, *, denial: bool) -> int:
        """Returns the longest lifetime that the present options allow for an entry."""
        if not denial:
            return self._options.success.longest
        return int(self._options.servfail) if entry.rcode in _FAILURES else self._options.denial.longest

    def may_serve(self, entry: Entry, now: float) -> bool:
        """Returns True if the entry, or the earlier answer in it, may be served at the time `now`."""
        older = entry.last_answer
        return self._in_time(entry, now) or (older is not None and self._in_time(older, now))

    def _in_time(self, entry: Entry, now: float) -> bool:
        """Returns True if the entry has not expired, or may still be served although it has expired."""
        return entry.remaining(now) > -self._stale.span if self._stale.up_to else entry.remaining(now) > 0

    def store(self, lookup: Lookup, reply: Reply) -> Stored:
        """Stores a reply if it may be cached.

        Returns the reply for the client, with the lifetime as the TTL of every record.
        """
        if reply.dropped or not reply.has_message:
            return Stored(reply, None)
        query, key = lookup.query, lookup.key
        found = message_type(query, reply)
        lifetime = self._lifetime(reply, found)
        increments = reply.increments
        entry = None
        if _is_from_cluster(reply):
            enabled = self.is_enabled(query.key, found)
            increments += increments_of_cluster_answer(lookup.cells, found if enabled else MessageType.OTHERERROR)
            spells = enabled and reply.scope is CacheScope.SHARED  # else clients could tell who asked for the name
            if spells and lifetime > 0 and is_cacheable(query, reply, found) and self.spelling(lookup) is None:
                self._spellings.set(key, query.name, lookup.now + lifetime)
        else:
            entry = self._stored(lookup, reply, found, lifetime)
        flags = reply.flags if query.flags & AD or query.dnssec_ok else reply.flags & ~AD
        limited = msgspec.structs.replace(
            with_ttl(reply, lifetime),
            flags=flags,
            edns=None if subnet_scope(query.edns) is None else reply.edns,
            increments=increments,
            lifetime=reply.lifetime if entry is None else NOT_REUSABLE,
        )
        return Stored(limited, entry)

    def has(self, key: Key) -> bool:
        """Returns True if a reply or a letter case is stored for the key."""
        return key in self._success.entries or key in self._denial.entries or key in self._spellings

    def admits(self, key: Key, name: bytes, ttl: int, *, denial: bool) -> bool:
        """Returns False if a reply or a letter case is stored for the key.

        Otherwise stores the letter case of `name` for `ttl` seconds, if the option `disable` permits it, and returns
        True.
        """
        if key in self._success.entries or key in self._denial.entries:
            return False
        now = self._clock()
        found = self._spellings.get(key, now)
        if found is not None:
            return found[0] == name
        if ttl > 0 and not within_any(key[0], self._no_denial if denial else self.no_success):
            self._spellings.set(key, name, now + ttl)
        return True

    def lifetime_of(self, ttl: int, *, denial: bool) -> int:
        """Returns the seconds for which a reply with the smallest TTL `ttl` may be stored."""
        bounds = self._options.denial if denial else self._options.success
        shortest, longest = bounds.shortest, bounds.longest
        ttl = ttl if ttl > shortest else shortest
        return ttl if ttl < longest else longest

    def store_simple(
        self, key: Key, simple: SimpleReply, dependencies: tuple[Dependency, ...] = (), changes: int = 0
    ) -> int:
        """Stores a simple reply (only addresses or a denial) by the rules of `store`. Returns the TTL for its
        records.

        `changes` is the number of changes when the query arrived. Only a reply with dependencies needs this number.
        """
        denial = simple.is_denial
        lifetime = self.lifetime_of(simple.ttl, denial=denial)
        if lifetime > 0 and (not dependencies or changes == self.changes):
            entry = Entry(encode(simple), self._clock(), lifetime, not denial)
            entry.packet_dependencies = dependencies
            self._put(key, entry, denial=denial)
        return lifetime

    def store_fresh(self, lookup: Lookup, reply: Reply) -> Stored | None:
        """Stores a reply if it may replace an expired entry (RFC 8767 §4). Otherwise returns None."""
        if reply.dropped or not reply.has_message or reply.flags & TC:
            return None
        if self._stale.prefer_positive:
            stored = self.store(lookup, reply)
            return stored if is_answer(lookup.query, reply) else None
        if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN) or message_type(lookup.query, reply) in NEVER_CACHED:
            return None
        if _is_from_cluster(reply):
            self._success.remove(lookup.key)
            self._denial.remove(lookup.key)
        return self.store(lookup, reply)

    def storing_in_background(
        self, previous: Entry, *, only_fresh: bool = False
    ) -> Callable[[Lookup, Reply], Stored | None]:
        """Returns a function that stores the reply of a refresh. The function is `store_fresh` if `only_fresh` is true,
        else `store`.

        The new entry takes over the number of hits of `previous`.
        """

        def store(lookup: Lookup, reply: Reply) -> Stored | None:
            stored = self.store_fresh(lookup, reply) if only_fresh else self.store(lookup, reply)
            if stored is not None and stored.entry is not None:
                stored.entry.hits, stored.entry.last_hit = previous.hits, lookup.now
            return stored

        return store

    def _stored(self, lookup: Lookup, reply: Reply, found: MessageType, lifetime: int) -> Entry | None:
        """Stores a reply without its unrelated records, and returns the new entry.

        Returns None if the remaining records are no longer a cacheable reply of the type `found`.
        """
        if lifetime <= 0 or not self._may_store(lookup, reply, found):
            return None
        kept = without_unrelated_records(lookup.query, reply)
        if kept is not reply:
            if message_type(lookup.query, kept) != found or not is_cacheable(lookup.query, kept, found):
                return None
            lifetime = min(lifetime, self._lifetime(kept, found))
        kept = msgspec.structs.replace(kept, edns=None, increments=(), extended=None, source="")
        entry = Entry(kept, self._clock(), lifetime, has_answer(lookup.query, kept))
        self._put(lookup.key, entry, denial=_is_denial(found))
        return entry

    def _may_store(self, lookup: Lookup, reply: Reply, found: MessageType) -> bool:
        if reply.scope is not CacheScope.SHARED or (reply.dependencies and lookup.changes != self.changes):
            return False
        if subnet_scope(lookup.query.edns) is not None or subnet_scope(reply.edns):  # RFC 7871 §7.3.1
            return False
        return is_cacheable(lookup.query, reply, found) and self.is_enabled(lookup.query.key, found)

    def _put(self, key: Key, entry: Entry, *, denial: bool) -> None:
        if denial:
            self._denial.put(key, entry)
            return
        if self._stale.prefer_positive and not entry.is_answer:
            before = self._success.get(key)
            if before is not None:
                entry.last_answer = before if before.is_answer else before.last_answer
        else:
            self._denial.remove(key)
        self._success.put(key, entry)

    def _lifetime(self, reply: Reply, found: MessageType) -> int:
        """Returns the seconds for which a reply may be stored: its smallest TTL, limited by the options."""
        if found == MessageType.SERVERERROR:
            return int(self._options.servfail)
        records = (*reply.answer, *reply.authority, *reply.additional)
        smallest = MIN_TTL
        if records and found in (MessageType.NOERROR, *DENIALS):
            smallest = min([record.ttl for record in records])
        return self.lifetime_of(smallest, denial=found in DENIALS)

    def is_enabled(self, key: bytes, found: MessageType) -> bool:
        """Returns True unless the option `disable` forbids storing replies of the type `found` for the name."""
        return not within_any(key, self._no_denial if _is_denial(found) else self.no_success)


def increments_of_cluster_answer(cells: Cells, found: MessageType) -> tuple[Increment, ...]:
    """Returns the counters that CoreDNS would increment for an answer from its cache.

    If CoreDNS does not cache replies of the type `found`, these are the counters of a miss.
    """
    if found in NEVER_CACHED:
        return ((cells.requests, 1.0), (cells.misses, 1.0))
    return ((cells.requests, 1.0), (cells.hits["denial" if found in DENIALS else "success"], 1.0))


def _is_from_cluster(reply: Reply) -> bool:
    return bool(reply.dependencies) and reply.lifetime == UNTIL_CHANGED


def _is_denial(found: MessageType) -> bool:
    return found in (*DENIALS, MessageType.SERVERERROR)


def with_ttl(reply: Reply, ttl: int) -> Reply:
    """Returns the reply with the TTL `ttl` in every record."""

    def section(records: tuple[Record, ...]) -> tuple[Record, ...]:
        return tuple([r if r.ttl == ttl else Record(r.owner, r.rtype, ttl, r.rdata, r.rclass) for r in records])

    if reply.stream is None and {r.ttl for r in (*reply.answer, *reply.authority, *reply.additional)} <= {ttl}:
        return reply
    return msgspec.structs.replace(
        reply,
        answer=section(reply.answer),
        authority=section(reply.authority),
        additional=section(reply.additional),
        stream=None if reply.stream is None else _stream_with_ttl(reply.stream, ttl),
    )


def _stream_with_ttl(
    stream: Generator[Iterable[Record], None, None], ttl: int
) -> Generator[Iterable[Record], None, None]:
    with closing(stream):
        for portion in stream:
            yield (Record(r.owner, r.rtype, ttl, r.rdata, r.rclass) for r in portion)


def wire_names(zones: tuple[str, ...]) -> tuple[bytes, ...]:
    """Returns zones as lower-case names in wire format."""
    return tuple(names.from_text(zone).lower() for zone in zones)


def within_any(key: bytes, zones: tuple[bytes, ...]) -> bool:
    """Returns True if the lower-case name is in one of the zones."""
    for zone in zones:  # noqa: SIM110 - twice as fast as any(), and every query comes here
        if names.is_within(key, zone):
            return True
    return False
