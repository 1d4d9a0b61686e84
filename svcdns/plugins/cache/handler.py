"""The `cache` plugin: keeps what others answered for as long as its TTLs allow (spec C-cache).

An answer that rests on the cluster alone is never kept: it gets the TTLs that CoreDNS's cache would show and is counted, but it lives
until the cluster changes. What is kept and rests on the cluster in part (an alias to an outside name, an address that the cluster does
not know) is dropped when that part changes."""

from __future__ import annotations

import msgspec

from svcdns.chain.classes import MessageType, classify
from svcdns.chain.environment import Environment
from svcdns.chain.handler import Following, then
from svcdns.chain.query import Answer, Query
from svcdns.plugins.cache.metrics import DROPS, ENTRIES, EVICTIONS, HITS, MISSES, REQUESTS
from svcdns.plugins.cache.options import MIN_TTL, Options
from svcdns.plugins.cache.store import Item, Key, Store
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, RA, TC, Rcode, Type
from svcdns.wire.reply import UNTIL_CHANGED, Audience, Count, Record, Reply

_UNSTORED = (MessageType.OTHERERROR, MessageType.META, MessageType.UPDATE)
_DENIALS = (MessageType.NXDOMAIN, MessageType.NODATA)


class Cache:
    """The cache of one block. Its stores outlive a change of the chain."""

    name = "cache"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Stores are the environment's, by block and capacities."""
        self._options, self._clock, self._counters = options, environment.clock, environment.counters
        self._zones = _wire(options.zones)
        self._no_success, self._no_denial = _wire(options.no_success), _wire(options.no_denial)
        self._view = environment.view
        self._label = ",".join(options.zones)
        self._cells: dict[str, _Cells] = {}
        first = self._cells_of(environment.server)
        kept = ("cache", environment.server, options.zones)
        self._success: Store = environment.kept((*kept, "success", options.success.capacity), lambda: self._store("success", first))
        self._denial: Store = environment.kept((*kept, "denial", options.denial.capacity), lambda: self._store("denial", first))

    def _store(self, which: str, cells: _Cells) -> Store:
        size = (self._options.success if which == "success" else self._options.denial).capacity
        counters, cell = self._counters, cells.evictions[which]
        return Store(size, lambda: counters.add(cell))

    def _cells_of(self, server: str) -> _Cells:
        cells = self._cells.get(server)
        if cells is None:
            cells = self._cells[server] = _Cells(self._counters, server, self._label, self._view)
        return cells

    def forget(self, owners: set[tuple[str, ...]]) -> None:
        """Drops what rests on one of the owners."""
        self._success.forget(owners)
        self._denial.forget(owners)

    def alike(self, zone: bytes) -> bool:
        """Whether no zone of the options begins inside this one."""
        return not any(other != zone and names.is_within(other, zone) for other in (*self._zones, *self._no_denial))

    def tick(self) -> None:
        """Shows how many entries there are; called about once a second."""
        for cells in self._cells.values():
            self._counters.set(cells.entries["success"], len(self._success))
            self._counters.set(cells.entries["denial"], len(self._denial))

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers from what is kept, or asks on and keeps the reply."""
        if not _covered(query.key, self._zones):
            return following(query)
        cells = self._cells_of(query.server)
        self._counters.add(cells.requests)
        key: Key = (query.key, query.rtype, query.rclass, query.dnssec_ok, bool(query.flags & CD))
        now = self._clock()
        found = self._find(key, now)
        if found is not None:
            which, item = found
            self._counters.add(cells.hits[which])
            return self._hit(query, item, now, (cells.requests, 1.0), (cells.hits[which], 1.0))
        self._counters.add(cells.misses)
        answer = following(query.changed(flags=query.flags | AD))
        return then(answer, lambda reply: self._missed(query, key, reply, cells))

    # -- what is kept

    def _find(self, key: Key, now: float) -> tuple[str, Item] | None:
        """Denials come first, but for a kept SERVFAIL where there is a live answer."""
        denial = self._live(self._denial, key, now)
        if denial is not None and denial.reply.rcode not in (Rcode.SERVFAIL, Rcode.NOTIMP):
            return "denial", denial
        success = self._live(self._success, key, now)
        if success is not None:
            return "success", success
        return None if denial is None else ("denial", denial)

    @staticmethod
    def _live(store: Store, key: Key, now: float) -> Item | None:
        item: Item | None = store.get(key)
        if item is not None and item.remaining(now) <= 0:
            store.pop(key, None)
            return None
        return item

    def _hit(self, query: Query, item: Item, now: float, *counts: Count) -> Reply:
        reply, remaining = item.reply, item.remaining(now)
        ttl = item.lifetime if self._options.keepttl else remaining
        flags = query.reply_flags | AA | reply.flags & RA
        if query.flags & AD or query.dnssec_ok:
            flags |= reply.flags & AD
        elapsed = now - item.stored
        into = elapsed - int(elapsed)
        return msgspec.structs.replace(
            reply,
            flags=flags,
            answer=_with_ttl(reply.answer, ttl),
            authority=_with_ttl(reply.authority, ttl),
            additional=_with_ttl(reply.additional, ttl),
            written=True,
            error="",
            lifetime=remaining - into,
            next_second=UNTIL_CHANGED if self._options.keepttl else 1.0 - into,
            counts=counts,
        )

    # -- what comes back

    def _missed(self, query: Query, key: Key, reply: Reply, cells: _Cells) -> Reply:
        if reply.silent or not reply.written:
            return reply
        kind = classify(query, reply)
        lifetime = self._lifetime(reply, kind)
        on_cluster_alone = bool(reply.owners) and reply.lifetime == UNTIL_CHANGED
        counts = reply.counts
        if on_cluster_alone:
            counts += self._counts_of_cluster_answer(query, kind, cells)
        elif lifetime > 0 and reply.audience is Audience.EVERYBODY and self._may_keep(query, reply, kind):
            self._keep(key, kind, Item(msgspec.structs.replace(reply, edns=None, counts=()), self._clock(), lifetime), query)
        flags = reply.flags if query.flags & AD or query.dnssec_ok else reply.flags & ~AD
        return msgspec.structs.replace(
            reply,
            flags=flags,
            answer=_with_ttl(reply.answer, lifetime),
            authority=_with_ttl(reply.authority, lifetime),
            additional=_with_ttl(reply.additional, lifetime),
            edns=None,
            counts=counts,
        )

    def _counts_of_cluster_answer(self, query: Query, kind: MessageType, cells: _Cells) -> tuple[Count, ...]:
        """What CoreDNS would count for the next such query: a miss where nothing is stored, else a hit."""
        if not self._stores(query.key, kind) or kind in _UNSTORED:
            return ((cells.requests, 1.0), (cells.misses, 1.0))
        return ((cells.requests, 1.0), (cells.hits["denial" if kind in _DENIALS else "success"], 1.0))

    def _lifetime(self, reply: Reply, kind: MessageType) -> int:
        """Whole seconds that the reply may be kept: its smallest TTL within the bounds of its class."""
        if kind == MessageType.SERVERERROR:
            return int(self._options.servfail)
        bounds = self._options.denial if kind in _DENIALS else self._options.success
        records = (*reply.answer, *reply.authority, *reply.additional)
        smallest = MIN_TTL
        if records and kind in (MessageType.NOERROR, *_DENIALS):
            smallest = min(record.ttl for record in records)
        return max(bounds.shortest, min(bounds.longest, smallest))

    def _stores(self, key: bytes, kind: MessageType) -> bool:
        """Whether replies of that kind are stored in the name's zone."""
        denial = kind in (*_DENIALS, MessageType.SERVERERROR)
        return not _covered(key, self._no_denial if denial else self._no_success)

    def _may_keep(self, query: Query, reply: Reply, kind: MessageType) -> bool:
        if kind in _UNSTORED or reply.flags & TC:
            return False
        has_soa = any(record.rtype == Type.SOA for record in reply.authority)
        if kind == MessageType.NXDOMAIN and not has_soa:
            return False
        return not (kind == MessageType.NOERROR and reply.answer and not has_soa and not _reaches(query, reply))

    def _keep(self, key: Key, kind: MessageType, item: Item, query: Query) -> None:
        if not self._stores(query.key, kind):
            return
        denial = kind in (*_DENIALS, MessageType.SERVERERROR) or self._ends_in_nothing(query, item.reply)
        (self._denial if denial else self._success).put(key, item)

    @staticmethod
    def _ends_in_nothing(query: Query, reply: Reply) -> bool:
        """A chain of CNAMEs that ends in NODATA is a denial."""
        has_soa = any(record.rtype == Type.SOA for record in reply.authority)
        return bool(reply.answer) and has_soa and not _reaches(query, reply)


def _reaches(query: Query, reply: Reply) -> bool:
    """Whether the answer leads through its CNAMEs to the asked type."""
    if query.rtype == Type.ANY:
        return True
    name = query.key
    targets = {record.owner.lower(): record.rdata.lower() for record in reply.answer if record.rtype == Type.CNAME}
    owners = {record.owner.lower() for record in reply.answer if record.rtype in (query.rtype, Type.DNAME)}
    for _ in range(len(reply.answer) + 1):
        if name in owners:
            return True
        if name not in targets:
            return any(record.rtype == Type.DNAME for record in reply.answer)
        name = targets[name]
    return False


def _with_ttl(records: tuple[Record, ...], ttl: int) -> tuple[Record, ...]:
    return tuple(
        record if record.ttl == ttl else Record(record.owner, record.rtype, ttl, record.rdata, record.rclass) for record in records
    )


def _wire(zones: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(names.from_text(zone).lower() for zone in zones)


def _covered(key: bytes, zones: tuple[bytes, ...]) -> bool:
    return any(names.is_within(key, zone) for zone in zones)


class _Cells:
    """The counters of one server label."""

    def __init__(self, counters: Counters, server: str, zones: str, view: str) -> None:
        labels = (zones, view)
        self.requests = counters.cell(REQUESTS, server, *labels)
        self.misses = counters.cell(MISSES, server, *labels)
        self.drops = counters.cell(DROPS, server, *labels)
        self.hits = {which: counters.cell(HITS, server, which, *labels) for which in ("success", "denial")}
        self.evictions = {which: counters.cell(EVICTIONS, server, which, *labels) for which in ("success", "denial")}
        self.entries = {which: counters.cell(ENTRIES, server, which, *labels) for which in ("success", "denial")}
