"""The `transfer` plugin: whole zones of the block's other plugins, for those who may have them
(docs/behaviour/plugins.md#transfer, RFC 5936, RFC 1995).

It knows who may ask and in what form; the zones come from every plugin of its block that has a method `transfer` (see
`chain.zones`). A client that is not up to date always gets the whole zone. Rule: a bounded number of zones is on its way at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from typing import Final

from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer, serial_of
from svcdns.plugins.transfer.notify import notify
from svcdns.plugins.transfer.options import Options, Rule
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.record import Record

AT_ONCE: Final = 16
"""Zones that one block of a worker sends at once; further requests are SERVFAIL, which a secondary takes for "later"."""


class Transfer:
    """Answers AXFR and IXFR."""

    name = "transfer"

    def __init__(self, options: Options, environment: Environment) -> None:
        """The sources are the environment's peers, looked for when they are needed."""
        self._environment = environment
        self._rules = [(names.from_text(zone).lower(), rule) for rule in options.rules for zone in rule.zones]
        self._rules.sort(key=lambda item: len(item[0]), reverse=True)
        self._sending = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - questions for whole zones are none for names
        """Every name alike."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers questions for whole zones; others go on."""
        if query.rtype not in (Type.AXFR, Type.IXFR):
            return following(query)
        if query.client.protocol != "tcp":
            return rcode_only(Rcode.REFUSED)
        rule = self._rule_for(query.key)
        if rule is None:
            return following(query)
        if not rule.allows(query.client.address.partition("%")[0]):
            return Reply(rcode=Rcode.REFUSED, flags=query.reply_flags)
        if query.rtype == Type.IXFR and query.serial is None:
            return rcode_only(Rcode.SERVFAIL)
        return self._answer(query, following)

    def _answer(self, query: Query, following: Following) -> Answer:
        try:
            offer = self._offer(query.key, (query.serial or 0) if query.rtype == Type.IXFR else 0)
        except UnavailableError as error:
            return rcode_only(Rcode.SERVFAIL, str(error))
        if offer is None:
            return following(query)
        if offer.records is None:
            self._log("zone %s: serial %d is current, told to %s", query, offer.soa)
            return Reply(flags=query.reply_flags, answer=(offer.soa,))  # without AA, as CoreDNS has it
        if self._sending >= AT_ONCE:
            return rcode_only(Rcode.SERVFAIL, f"plugin/transfer: {AT_ONCE} transfers are on their way already")
        return Reply(flags=query.reply_flags | AA, stream=self._stream(query, offer.records))

    def _offer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """What the first plugin in chain order that has the zone offers."""
        for peer in self._environment.peers(""):
            if hasattr(peer, "transfer"):
                offer: ZoneOffer | None = peer.transfer(zone, serial)
                if offer is not None:
                    return offer
        return None

    def _stream(self, query: Query, zone: Iterable[Iterable[Record]]) -> Generator[Iterable[Record], None, None]:
        """The zone's records; counts itself among those that are on their way."""
        self._sending += 1
        portion: Iterable[Record] = ()
        try:
            for portion in zone:
                yield portion
            for soa in portion:  # a zone ends with its SOA
                self._log("zone %s with serial %d sent to %s", query, soa)
        finally:
            self._sending -= 1

    def _log(self, text: str, query: Query, soa: Record) -> None:
        self._environment.log.info(text, names.to_text(query.key), serial_of(soa), query.client.address)

    def _rule_for(self, key: bytes) -> Rule | None:
        return next((rule for zone, rule in self._rules if names.is_within(key, zone)), None)

    # -- NOTIFY

    def notify(self, zone: bytes) -> None:
        """Tells everybody whom `to` names by address that the zone is new (RFC 1996); does not wait for it."""
        rule = self._rule_for(zone)
        if rule is None:
            return
        for address in rule.to:
            task = asyncio.ensure_future(notify(zone, address, rule.source, self._environment.log))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Ends notifications that are still on their way."""
        for task in tuple(self._tasks):
            task.cancel()
