"""The `secondary` plugin: authoritative answers from zones that are transferred from primary servers.

One worker transfers the zones, and publishes each version to all workers. A reply has its zone as a dependency, so the
answer table keeps the reply until the zone changes. The rules are those of docs/behaviour/plugins.md#secondary.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import chain
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.corefile.zones import is_reverse
from svcdns.log_line import LogLine
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.plugins.secondary.catalog import read_catalog
from svcdns.plugins.secondary.catalog_members import CatalogMembers
from svcdns.plugins.secondary.kept_zones import kept_key
from svcdns.plugins.secondary.options import Options
from svcdns.plugins.secondary.refresher import LAST_RETRY, ZoneRefresher
from svcdns.plugins.secondary.state_file import StateFile, path_of
from svcdns.plugins.secondary.zone_copy import TransferredZone
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.record import Record
from svcdns.zones.content import decode, portions
from svcdns.zones.zone import Zone
from svcdns.zones.zone_set import WILDCARD, ZoneSet

_MEMBERS: Final[Dependency] = ("secondary", "catalogs")
"""The dependency of replies on the zones of all catalogs."""
_SILENT: Final = logging.getLogger("svcdns.silent")
"""The logger of the workers that transfer nothing: each line of a catalog is written once."""
_SILENT.disabled = True


class Secondary(Plugin):
    """Answers queries in the zones of one server block."""

    name = "secondary"
    metadata_names = ("zone",)

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Uses the zones that were transferred so far, and each version that is transferred later."""
        self._environment, self._options = environment, options
        self._rules = {names.from_text(zone).lower(): rule for rule in options.rules for zone in rule.zones}
        self._fallthrough = [names.from_text(zone).lower() for zone in options.fallthrough]
        self._zones = ZoneSet(self.name)
        self._refreshers: dict[bytes, ZoneRefresher] = {}
        self._copies: dict[bytes, TransferredZone] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._payloads: dict[bytes, bytes] = {}
        self._followed: set[bytes] = set()
        self._dropped: set[bytes] = set()
        """Zones that a catalog has removed. If a catalog adds such a zone again, its earlier content is not used."""
        log = environment.log if environment.first else _SILENT
        self._catalogs = CatalogMembers(options, self._rules, self._add_member, self._drop, log)
        self._started = False
        for apex in tuple(self._rules):
            self._follow(apex)

    @property
    def own_zones(self) -> Sequence[bytes]:  # type: ignore[override]
        """The zones of the plugin, without reverse zones."""
        return tuple(apex for apex in self._rules if not is_reverse(names.to_text(apex)))

    def _follow(self, apex: bytes) -> None:
        key = _content_key(apex)
        self._zones.put(apex, None)

        def loaded(payload: bytes) -> None:
            if apex in self._rules and payload != self._payloads.get(apex, b""):
                self._put(apex, payload)
                self._environment.invalidate((_dependency(apex),))

        def notified(_payload: bytes) -> None:
            refresher = self._refreshers.get(apex)
            if refresher is not None:
                refresher.notify()

        def wanted(_payload: bytes) -> None:
            content = self._payloads.get(apex)
            if self._environment.first and content:
                self._environment.publish(self.name, key, content)

        payload = b"" if apex in self._dropped else self._environment.data(self.name, key)
        if payload is None:  # empty data mean that the zone has expired, or that its catalog has dropped it
            payload = self._environment.data(self.name, kept_key(apex))
        self._put(apex, payload or b"")
        if apex in self._followed:
            return
        self._followed.add(apex)
        self._environment.on_data(self.name, key, loaded)
        self._environment.on_data(self.name, _wanted_key(apex), wanted)
        self._environment.on_data(self.name, _notify_key(apex), notified)

    def _put(self, apex: bytes, payload: bytes) -> None:
        self._payloads[apex] = payload
        self._zones.put(apex, Zone(apex, payload, self._environment.poll_sockets) if payload else None)
        if apex in self._catalogs and payload:
            self._catalogs.apply(apex, read_catalog(apex, chain.from_iterable(portions(decode(payload)))))
            self._environment.invalidate((_MEMBERS,))

    def _add_member(self, zone: bytes, catalog: bytes) -> None:
        is_new = zone not in self._rules
        self._rules[zone] = self._rules[catalog]
        if is_new:
            self._follow(zone)
        if self._started:
            self._end(zone)
            self._begin(zone)

    def _drop(self, zone: bytes) -> None:
        del self._rules[zone]
        self._dropped.add(zone)
        self._zones.remove(zone)
        self._payloads.pop(zone, None)
        copy = self._end(zone)
        if copy is not None:
            copy.remove()

    def _end(self, zone: bytes) -> TransferredZone | None:
        """Ends the transfers of a zone in the worker that makes them."""
        self._refreshers.pop(zone, None)
        task = self._tasks.pop(zone, None)
        if task is not None:
            task.cancel()
        return self._copies.pop(zone, None)

    def start(self) -> None:
        """Begins to transfer the zones, in one worker. Another worker asks that worker for zones that it lacks.

        A worker lacks zones if it starts after control was restarted, because control then has no published data.
        """
        self._started = True
        for apex in tuple(self._rules):
            self._begin(apex)

    def _begin(self, apex: bytes) -> None:
        environment, rule = self._environment, self._rules[apex]
        if not environment.first:
            if not environment.data(self.name, _content_key(apex)):
                environment.publish(self.name, _wanted_key(apex), str(environment.clock()).encode())
            return

        def soa() -> Record | None:
            zone = self._zones.get(apex)
            return None if zone is None else zone.soa

        def publish(payload: bytes) -> None:
            environment.publish(self.name, _content_key(apex), payload)
            if environment.data(self.name, kept_key(apex)):  # frees the memory
                environment.publish(self.name, kept_key(apex), b"")
            for transfer in environment.peers("transfer") if payload else ():
                transfer.notify(apex)

        state = None
        if self._options.state:
            state = StateFile(path_of(self._options.state, apex), apex, rule.primaries, environment.log)
        copy = self._copies[apex] = TransferredZone(
            apex, lambda: self._payloads.get(apex, b""), soa, publish, state,
            is_catalog=apex in self._catalogs, has_history=self._options.has_history,
        )  # fmt: skip
        clock = asyncio.get_running_loop().time
        refresher = ZoneRefresher(apex, rule, clock, environment.log, copy, environment.poll_sockets)
        self._refreshers[apex] = refresher
        task = self._tasks[apex] = asyncio.ensure_future(_run(refresher, copy))
        task.add_done_callback(lambda done: self._ended(apex, done))

    def _ended(self, apex: bytes, task: asyncio.Task[None]) -> None:
        """After an unexpected exception, starts the transfers of the zone again, with a delay."""
        if not task.cancelled() and self._tasks.get(apex) is task:
            self._environment.log.error(
                LogLine("the transfers of a zone failed", zone=names.to_text(apex)), exc_info=task.exception()
            )
            self._end(apex)
            asyncio.get_running_loop().call_later(LAST_RETRY, self._begin_again, apex)

    def _begin_again(self, apex: bytes) -> None:
        if self._started and apex in self._rules and apex not in self._tasks:
            self._begin(apex)

    def stop(self) -> None:
        """Ends the transfers."""
        self._started = False
        for zone in tuple(self._tasks):
            copy = self._end(zone)
            if copy is not None:
                copy.stop()

    def notified(self, zone: bytes, address: str) -> bool:
        """Has a zone checked if the NOTIFY message comes from one of its primary servers."""
        rule = self._rules.get(zone)
        if rule is None or all(address != host for host, _ in rule.primaries):
            return False
        environment, text = self._environment, names.to_text(zone)
        plugin_logger("file").info("Notify from %s for %s: checking transfer", address, text)  # as in CoreDNS
        environment.publish(self.name, _notify_key(zone), str(environment.clock()).encode())
        return True

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """Returns the zone's records for the plugin `transfer`; see `plugin_api.zone_transfer`."""
        return self._zones.offer(zone, serial)

    def metadata(self, query: Query, label: str) -> str:
        """Returns the wildcard name whose records answer the query, for the label `zone/wildcard`."""
        return self._zones.wildcard(query) if label == WILDCARD else ""

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names in the plugin's zones.

        Other queries go to the next plugin, or get REFUSED if this plugin is the last one in the plugin chain.
        """
        if self._catalogs:
            self._environment.depends_on(_MEMBERS)
        apex = self._zones.find(query.key, query.rtype)
        if apex is None:
            return ZoneSet.outside(self, query, following, self._environment.peers(""))
        self._environment.depends_on(_dependency(apex))
        answer, may_fall_through = self._zones.answer(query, apex)
        if may_fall_through and any(names.is_within(query.key, zone) for zone in self._fallthrough):
            return following(query)
        return answer


async def _run(refresher: ZoneRefresher, copy: TransferredZone) -> None:
    await refresher.run(await copy.age())


def _content_key(apex: bytes) -> str:
    return f"zone {names.to_text(apex)}"


def _notify_key(apex: bytes) -> str:
    return f"notify {names.to_text(apex)}"


def _wanted_key(apex: bytes) -> str:
    return f"wanted {names.to_text(apex)}"


def _dependency(apex: bytes) -> Dependency:
    return ("secondary", names.to_text(apex))
