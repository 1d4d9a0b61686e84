"""The `transfer` plugin: answers AXFR and IXFR queries (RFC 5936, RFC 1995), and sends NOTIFY messages (RFC 1996).

This module decides which clients may transfer a zone. The records come from other plugins with a method `transfer` (see
`plugin_api.zone_transfer`). The reply to IXFR has the differences from the client's version if the plugin knows them,
otherwise the whole zone. If the client's copy is current, the reply is the SOA record. See
docs/behaviour/plugins.md#transfer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterable
from itertools import chain
from typing import Final

from svcdns.log_line import LogLine
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer
from svcdns.plugins.transfer.options import Options, Rule
from svcdns.upstream.query import Address, ExchangeError, UpstreamQuery, address_text
from svcdns.upstream.udp import exchange_over_udp
from svcdns.wire import names
from svcdns.wire.codes import AA, Class, Opcode, Rcode, Type, rcode_text
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import serial_of

MAX_TRANSFERS: Final = 16
"""The most transfers of one server block in one worker at the same time.

Further transfers get SERVFAIL; a secondary server tries again later.
"""
MIN_UDP: Final = 512
MAX_UDP: Final = 1232
"""The size of a reply over UDP without EDNS, and the greatest size, in octets."""
UDP_RESERVE: Final = 80
"""Octets of a reply over UDP for the header, the question without its name, and the OPT record with a cookie."""
NOTIFY_TRIES: Final = 3
NOTIFY_TIMEOUT: Final = 2.0
"""Seconds to wait for the reply to each NOTIFY message."""


class Transfer(Plugin):
    """Transfers the zones of one server block."""

    name = "transfer"
    offers = ("notify",)

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Sorts the zones of all directives, the longest name first."""
        self._environment = environment
        self._rules = [(names.from_text(zone).lower(), rule) for rule in options.rules for zone in rule.zones]
        self._rules.sort(key=lambda item: len(item[0]), reverse=True)
        self._active = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - zone transfers have no negative answers
        """Returns True, because this plugin treats the negative answers of all names in the same way."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True, because zone transfers never take the cold path (replies without the plugin chain)."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers AXFR and IXFR queries for the zones of the directives. All other queries go to the next plugin."""
        if query.rtype not in (Type.AXFR, Type.IXFR):
            return following(query)
        is_udp = query.client.protocol == "udp"
        if is_udp and (query.rtype == Type.AXFR or query.serial is None):
            return rcode_only(Rcode.REFUSED)
        rule = self._rule_for(query.key)
        if rule is None:
            return rcode_only(Rcode.REFUSED) if is_udp else following(query)
        if not rule.allows(query.client.address.partition("%")[0]):
            return Reply(rcode=Rcode.REFUSED, flags=query.reply_flags)
        if query.rtype == Type.IXFR and query.serial is None:
            return rcode_only(Rcode.SERVFAIL)
        return self._answer(query, following)

    def _answer(self, query: Query, following: Following) -> Answer:
        try:
            offer = self._offer(query, (query.serial or 0) if query.rtype == Type.IXFR else 0)
        except UnavailableError as error:
            return rcode_only(Rcode.SERVFAIL, str(error))
        if offer is None:
            return following(query)
        if offer.records is None:
            self._log("up-to-date", query, offer.soa)
            return Reply(flags=query.reply_flags, answer=(offer.soa,))  # without AA, as in CoreDNS
        if query.client.protocol == "udp":
            return self._over_udp(query, offer)
        if self._active >= MAX_TRANSFERS:
            return rcode_only(Rcode.SERVFAIL, f"plugin/transfer: {MAX_TRANSFERS} transfers are active already")
        transfer = "differences" if offer.is_incremental else "whole-zone"
        return Reply(flags=query.reply_flags | AA, stream=self._stream(query, offer.records, transfer))

    def _over_udp(self, query: Query, offer: ZoneOffer) -> Reply:
        """Returns the differences if they fit into a datagram, otherwise the SOA record (RFC 1995 §2).

        A client that gets only a newer SOA record repeats its query over TCP.
        """
        found: list[Record] = []
        size = max(MIN_UDP, min(MAX_UDP, query.edns.size)) if query.edns is not None else MIN_UDP
        room = size - len(query.name) - UDP_RESERVE
        if offer.is_incremental:
            for record in chain.from_iterable(offer.records or ()):
                found.append(record)
                room -= len(record.owner) + 10 + len(record.rdata)
                if room < 0:
                    found.clear()
                    break
        if found:
            self._log("differences", query, offer.soa)
        return Reply(flags=query.reply_flags | AA, answer=tuple(found) or (offer.soa,))

    def _offer(self, query: Query, serial: int) -> ZoneOffer | None:
        """Returns the offer of the first plugin that has the zone, or None if no plugin has it."""
        zone, visibility = query.key, query.visibility
        for peer in self._environment.peers(""):
            offer: ZoneOffer | None = (
                peer.transfer(zone, serial) if visibility is None else peer.visible_transfer(zone, serial, visibility)
            )
            if offer is not None:
                return offer
        return None

    def _stream(
        self, query: Query, zone: Iterable[Iterable[Record]], transfer: str
    ) -> Generator[Iterable[Record], None, None]:
        """Yields the zone's records. At the end, logs the transfer.

        The transfer counts towards the limit of simultaneous transfers until the generator ends or is closed.
        """
        self._active += 1
        portion: Iterable[Record] = ()
        try:
            for portion in zone:
                yield portion
            for soa in portion:  # the last record is the SOA record (RFC 5936 §2.2)
                self._log(transfer, query, soa)
        finally:
            self._active -= 1

    def _log(self, transfer: str, query: Query, soa: Record) -> None:
        zone, client = names.to_text(query.key), query.client.address
        line = LogLine("answered a transfer", transfer=transfer, zone=zone, serial=serial_of(soa), client=client)
        self._environment.log.info(line)

    def _rule_for(self, key: bytes) -> Rule | None:
        return next((rule for zone, rule in self._rules if names.is_within(key, zone)), None)

    # -- NOTIFY

    def notify(self, zone: bytes) -> None:
        """Sends NOTIFY messages for the zone to every address of `to` (RFC 1996). Returns before replies arrive."""
        rule = self._rule_for(zone)
        if rule is None:
            return
        for address in rule.to:
            task = asyncio.ensure_future(notify(zone, address, rule.source, self._environment.log))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Cancels the NOTIFY messages that have no reply yet."""
        for task in tuple(self._tasks):
            task.cancel()


async def notify(zone: bytes, address: Address, source: str, log: logging.Logger) -> None:
    """Notifies one address that the zone has changed, with up to NOTIFY_TRIES messages.

    Logs a warning if none of them is acknowledged. If `source` is empty, the kernel chooses the local address.
    """
    message = UpstreamQuery(zone, Type.SOA, Class.IN, Opcode.NOTIFY << 11 | AA)
    reason = ""
    for _ in range(NOTIFY_TRIES):
        try:
            rcode = (await exchange_over_udp(message, address, NOTIFY_TIMEOUT, source)).flags & 15
        except ExchangeError as error:
            reason = str(error)
            continue
        if rcode == Rcode.NOERROR:
            return
        reason = f"{address_text(address)}: {rcode_text(rcode)}"
    log.warning(LogLine("a notification was not accepted", zone=names.to_text(zone), error=reason))
