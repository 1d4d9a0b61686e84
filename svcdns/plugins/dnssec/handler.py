"""The `dnssec` plugin: answers queries for DNSKEY records, and signs the replies of the following plugins."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

import msgspec

from svcdns.dnssec.keys import SigningKey
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.dnssec.key_files import decode
from svcdns.plugins.dnssec.metrics import ENTRIES, HITS, MISSES, SIGNATURE
from svcdns.plugins.dnssec.options import Options
from svcdns.plugins.dnssec.sections import signed
from svcdns.plugins.dnssec.signer import ORIGINAL_TTL, Batch, Overloaded, Signer
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.record import Record

Make = Callable[[Batch], Reply]
"""A function that returns a reply with the signatures of a batch."""

_OVERLOADED: Final = rcode_only(Rcode.SERVFAIL, "plugin/dnssec: too many replies wait for their signatures")


class Dnssec(Plugin):
    """Signs the replies to queries with the DO bit, for the zones of one `dnssec` directive."""

    name = "dnssec"
    states_reuse = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Uses the keys that the control process has sent, or sends later."""
        super().__init__(options, environment)
        self._zones = tuple(sorted(options.zones, key=len, reverse=True))
        self._counters = environment.counters
        self._cells: dict[str, tuple[int, int, int]] = {}
        """By server label: the cells of the metrics HITS, MISSES and ENTRIES."""
        self._keys: dict[str, SigningKey] = {}
        for base in dict.fromkeys(path.base for path in options.keys):
            data = environment.data(self.name, base)
            if data is not None:
                self._keys[base] = decode(data)
            environment.on_data(self.name, base, partial(self._take, base))
        self._signer = self._new_signer()

    def _take(self, base: str, payload: bytes) -> None:
        self._keys[base] = decode(payload)
        self._signer.stop()
        self._signer = self._new_signer()
        self.environment.invalidate_all()

    def _new_signer(self) -> Signer:
        keys = [self._keys[path.base] for path in self.options.keys if path.base in self._keys]
        return Signer(keys, self.options.capacity, time.time)

    def answers_like(self, previous: Dnssec) -> bool:
        """Returns True if the keys are equal."""
        return self._keys == previous._keys

    def name_independent(self, zone: bytes) -> bool:
        """Returns True if the zone has no name of the signed zones, whose negative answers are signed for each name."""
        return not any(names.is_within(zone, one) or names.is_within(one, zone) for one in self._zones)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Leaves the names of the signed zones to the plugin chain."""
        fast_path.zones += self._zones
        return names.ROOT not in self._zones

    def join_cold_path(self, cold_path: ColdPath) -> bool:
        """Leaves the signed zones to the plugin chain."""
        cold_path.zones = tuple(zone for zone in cold_path.zones if self.name_independent(zone))
        return bool(cold_path.zones)

    def shrink(self, share: float) -> Iterator[None]:
        """Reduces the stored signatures to `share` of their capacity."""
        return self._signer.shrink(share)

    def stop(self) -> None:
        """Ends the thread for signatures, if there is one."""
        self._signer.stop()

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers a query for the keys of a zone. Signs the reply of the following plugins if the query has DO set."""
        zone = self._zone_of(query.key)
        if zone is None:
            return following(query)
        if query.rtype == Type.DNSKEY and query.key == zone:
            return self._completed(query, partial(self._keys_of, query))
        if not query.dnssec_ok:
            return following(query)
        answer = following(query)
        if isinstance(answer, Reply):
            return self._signed(query, zone, answer)
        if self._signer.quick:
            return then(answer, lambda reply: self._signed_now(query, zone, reply))
        return self._signed_later(query, zone, answer)

    def _zone_of(self, name: bytes) -> bytes | None:
        """Returns the longest of the signed zones that `name` is in, or None."""
        return next((zone for zone in self._zones if names.is_within(name, zone)), None)

    def _keys_of(self, query: Query, batch: Batch) -> Reply:
        """Returns the reply to a DNSKEY query for the name of a zone."""
        keys = tuple(Record(query.key, Type.DNSKEY, key.ttl, key.rdata) for key in self._signer.keys)
        reply = Reply(flags=query.reply_flags | AA, answer=keys, lifetime=UNTIL_CHANGED)
        if not query.dnssec_ok or not keys:
            return reply
        return msgspec.structs.replace(reply, answer=(*keys, *batch.sign(keys, query.key, ORIGINAL_TTL)))

    def _signed(self, query: Query, zone: bytes, reply: Reply) -> Answer:
        if not reply.has_message or reply.dropped or reply.stream is not None:
            return reply
        return self._completed(query, lambda batch: signed(query, reply, zone, self._zone_of, batch))

    def _signed_now(self, query: Query, zone: bytes, reply: Reply) -> Reply:
        answer = self._signed(query, zone, reply)
        assert isinstance(answer, Reply), "quick signatures need no waiting"
        return answer

    async def _signed_later(self, query: Query, zone: bytes, answer: Awaitable[Reply]) -> Reply:
        return await self._signed(query, zone, await answer)

    def _completed(self, query: Query, make: Make) -> Answer:
        """Returns the reply of `make`. If signatures are missing, first waits until they are made."""
        batch = self._signer.batch()
        reply = make(batch)
        return self._finished(query, reply, batch) if batch.is_complete else self._waited(query, make, batch)

    async def _waited(self, query: Query, make: Make, batch: Batch) -> Reply:
        try:
            await batch.complete()
        except Overloaded:
            return _OVERLOADED
        return self._finished(query, make(batch), batch)

    def _finished(self, query: Query, reply: Reply, batch: Batch) -> Reply:
        """Counts the signatures, and limits the lifetime of the reply to the time until a renewal."""
        signatures = batch.hits + batch.misses
        if not signatures:
            return reply
        counters = self._counters
        hits, misses, entries = self._cells.get(query.listener) or self._new_cells(query.listener)
        counters.add(hits, batch.hits)
        counters.add(misses, batch.misses)
        counters.set(entries, len(self._signer))
        return msgspec.structs.replace(
            reply,
            lifetime=min(reply.lifetime, batch.renewal - batch.now),
            increments=(*reply.increments, (hits, float(signatures))),
        )

    def _new_cells(self, server: str) -> tuple[int, int, int]:
        cell = self._counters.cell
        found = self._cells[server] = cell(HITS, server), cell(MISSES, server), cell(ENTRIES, server, SIGNATURE)
        return found
