"""The `nomad` plugin: answers from the services that are registered in Nomad.

As in CoreDNS, a query causes a request to Nomad. The response is used again for KEEP seconds, so a worker sends at most
one request a second for each name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.networks import packed
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import NOT_REUSABLE, Increment, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.nomad.errors import NomadError
from svcdns.plugins.nomad.files import KEY, context
from svcdns.plugins.nomad.metrics import FAILED, SUCCEEDED
from svcdns.plugins.nomad.options import Options
from svcdns.telemetry.counters import Family
from svcdns.telemetry.logging import LineLimit
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.record import Record

if TYPE_CHECKING:
    from svcdns.plugins.nomad.client import Client, Registration

KEEP: Final = 1.0
"""The seconds for which a response of Nomad is used again."""
MAX_NAMESPACES: Final = 100
"""The largest number of namespaces with their own series. Clients choose the namespace in a name."""
OTHER: Final = "other"
_SRV_WEIGHTS: Final = b"\0\x0a\0\x0a"
"""Priority 10 and weight 10."""
_SOA_NUMBERS: Final = b"".join(number.to_bytes(4, "big") for number in (0, 3600, 600, 86400, 30))
_LENGTHS: Final = {Type.A: 4, Type.AAAA: 16}


class Nomad(Plugin):
    """Answers queries in the zone of one directive."""

    name = "nomad"

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Makes no connection."""
        self.options, self._environment = options, environment
        self._zone = names.from_text(options.zone).lower()
        self._depth = len(names.labels_of(self._zone))
        self._rname = b"\x0ahostmaster" + self._zone
        self._client: Client | None = None
        self._requests: dict[tuple[str, str], asyncio.Task[Sequence[Registration]]] = {}
        """The requests in flight, by service and namespace. Equal queries share a request."""
        self._probe: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._is_ready = len(options.addresses) == 1
        self._namespaces: set[str] = set()
        self._limit = LineLimit()
        self._keep = KEEP if options.ttl else NOT_REUSABLE

    # -- life

    @property
    def own_zones(self) -> Sequence[bytes]:  # type: ignore[override]
        """Returns the zone of the plugin."""
        return (self._zone,)

    def ready(self) -> bool:
        """Returns True if there is one address, or if one of several addresses has answered."""
        return self._is_ready

    def start(self) -> None:
        """Looks for an address that answers, if there are several."""
        self.tick()

    def tick(self) -> None:
        """Looks for an address that answers, until the plugin is ready."""
        if not self._is_ready and self._probe is None:
            self._probe = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        try:
            await self._connected().probe()
        except NomadError as error:
            self._limit.log(self._environment.log, logging.WARNING, "no Nomad client available: %s", error)
        else:
            self._is_ready = True
        finally:
            self._probe = None

    def stop(self) -> None:
        """Closes the connections when the requests have ended."""
        if self._probe is not None:
            self._probe.cancel()
        if self._client is not None:
            self._closing = asyncio.get_running_loop().create_task(self._close(self._client))

    async def _close(self, client: Client) -> None:
        if self._requests:
            await asyncio.wait(self._requests.values())
        await client.close()

    def _connected(self) -> Client:
        if self._client is None:
            from svcdns.plugins.nomad.client import Client  # here, because HTTP is only for this plugin

            options = self.options
            is_secure = any(one.is_secure for one in options.addresses)
            payload = self._environment.data(self.name, KEY)
            self._client = Client(options, context(payload, options.tls) if is_secure else None)
        return self._client

    # -- queries

    def name_independent(self, zone: bytes) -> bool:
        """Returns True if the zone has no name in common with this plugin's zone."""
        return not (names.is_within(zone, self._zone) or names.is_within(self._zone, zone))

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Excludes the plugin's zone from the fast path (forwarding without the plugin chain), and returns True."""
        fast_path.zones += (self._zone,)
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names with a service and a namespace. Other queries go to the next plugin."""
        if not names.is_within(query.key, self._zone):
            return following(query)
        labels = names.labels_of(query.key)
        if len(labels) < self._depth + 2:
            return following(query)
        service, namespace = (names.to_text(names.from_labels([label]))[:-1] for label in labels[:2])
        return self._answer(query, service, namespace)

    async def _answer(self, query: Query, service: str, namespace: str) -> Reply:
        self._environment.log.debug("Looking up record for svc: %s namespace: %s", service, namespace)
        try:
            found = await self._registrations(service, namespace)
        except NomadError as error:
            self._limit.log(self._environment.log, logging.WARNING, "%s", error)
            self._count(FAILED, namespace)
            return Reply(rcode=Rcode.SERVFAIL, flags=query.reply_flags | AA)
        return self._reply(query, namespace, found)

    async def _registrations(self, service: str, namespace: str) -> Sequence[Registration]:
        key = service, namespace
        task = self._requests.get(key)
        if task is None:
            work = self._connected().registrations(service, namespace)
            task = self._requests[key] = asyncio.get_running_loop().create_task(work)
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: tuple[str, str], task: asyncio.Task[Sequence[Registration]]) -> None:
        self._requests.pop(key, None)
        if not task.cancelled():
            task.exception()  # if no query waits any more, nobody reads the exception, and asyncio would log it

    def _reply(self, query: Query, namespace: str, found: Sequence[Registration]) -> Reply:
        answer: list[Record] = []
        additional: list[Record] = []
        error = ""
        for one in found:
            address = packed(one.address) if "%" not in one.address else None
            if address is None:
                error = "error parsing IP address"
                break
            rtype = Type.A if len(address) == 4 else Type.AAAA
            if query.rtype == Type.SRV:
                port = (one.port % 65536).to_bytes(2, "big")
                answer.append(self._record(query.name, Type.SRV, _SRV_WEIGHTS + port + query.key))
                additional.append(self._record(query.key, rtype, address))
            elif query.rtype not in _LENGTHS:
                error = "query type not implemented"
                break
            elif query.rtype == rtype:
                answer.append(self._record(query.name, rtype, address))
        exists = bool(found) and not error
        if not exists:
            answer.append(self._soa(query.key))
        return Reply(
            rcode=Rcode.NOERROR if exists else Rcode.NXDOMAIN,
            flags=query.reply_flags | AA,
            answer=tuple(answer),
            additional=tuple(additional),
            error=error,
            lifetime=self._keep,
            increments=(self._count(SUCCEEDED if exists else FAILED, namespace),),
        )

    def _record(self, owner: bytes, rtype: int, rdata: bytes) -> Record:
        return Record(owner, rtype, self.options.ttl, rdata)

    def _soa(self, owner: bytes) -> Record:
        """Returns the SOA record of a negative reply. The owner is the query name, as in CoreDNS."""
        server = b"\3ns1" + owner
        return self._record(
            owner, Type.SOA, (server if len(server) <= names.MAX_NAME else owner) + self._rname + _SOA_NUMBERS
        )

    def _count(self, family: Family, namespace: str) -> Increment:
        if namespace not in self._namespaces:
            if len(self._namespaces) < MAX_NAMESPACES:
                self._namespaces.add(namespace)
            else:
                namespace = OTHER
        cell = self._environment.counters.cell(family, self._environment.server, namespace)
        self._environment.counters.add(cell)
        return cell, 1.0
