"""The `secondary` plugin: authoritative answers from zones that are transferred from primary servers.

One worker transfers the zones, and publishes each version to all workers. A reply has its zone as a dependency, so the
answer table keeps the reply until the zone changes. The rules are those of docs/behaviour/plugins.md#secondary.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.corefile.zones import is_reverse
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.plugins.secondary.catalog import members
from svcdns.plugins.secondary.options import Options
from svcdns.plugins.secondary.refresher import Timers, ZoneRefresher
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from svcdns.wire.record import Record
from svcdns.zones.content import decode, encode, portions
from svcdns.zones.zone import Zone
from svcdns.zones.zone_set import ZoneSet

_MEMBERS: Final[Dependency] = ("secondary", "catalogs")
"""The dependency of replies on the zones of all catalogs."""
_SILENT: Final = logging.getLogger("svcdns.silent")
"""The logger of the workers that transfer nothing: each line of a catalog is written once."""
_SILENT.disabled = True


class Secondary(Plugin):
    """Answers queries in the zones of one server block."""

    name = "secondary"

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Uses the zones that were transferred so far, and each version that is transferred later."""
        self._environment = environment
        self._primaries = {
            names.from_text(zone).lower(): rule.primaries for rule in options.rules for zone in rule.zones
        }
        self._fallthrough = [names.from_text(zone).lower() for zone in options.fallthrough]
        self._zones = ZoneSet(self.name)
        self._refreshers: dict[bytes, ZoneRefresher] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._payloads: dict[bytes, bytes] = {}
        self._followed: set[bytes] = set()
        self._catalogs: dict[bytes, list[bytes]] = {
            names.from_text(zone).lower(): [names.from_text(text).lower() for text in rule.members]
            for rule in options.rules
            if rule.members is not None
            for zone in rule.zones
        }
        """The catalogs, each with the zones that its members must be in; empty for all."""
        self._members: dict[bytes, tuple[bytes, bytes]] = {}
        """The zones that are members of a catalog: by name, the catalog and the member id."""
        self._started = False
        for apex in tuple(self._primaries):
            self._follow(apex)

    @property
    def own_zones(self) -> Sequence[bytes]:  # type: ignore[override]
        """The zones of the plugin, without reverse zones."""
        return tuple(apex for apex in self._primaries if not is_reverse(names.to_text(apex)))

    def _follow(self, apex: bytes) -> None:
        key = _content_key(apex)
        self._zones.put(apex, None)

        def loaded(payload: bytes) -> None:
            if apex in self._primaries and payload != self._payloads.get(apex, b""):
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

        self._put(apex, self._environment.data(self.name, key) or b"")
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
            records = (record for portion in portions(decode(payload)) for record in portion)
            self._apply_catalog(apex, members(apex, records))

    def _apply_catalog(self, catalog: bytes, found: dict[bytes, bytes]) -> None:
        """Adds and removes zones, so that the zones of a catalog are those in `found`, each with its member id."""
        log, allowed = self._environment.log if self._environment.first else _SILENT, self._catalogs[catalog]
        found = {
            zone: one for zone, one in found.items() if not allowed or any(names.is_within(zone, a) for a in allowed)
        }
        for zone, (owner, member) in tuple(self._members.items()):
            if owner == catalog and found.get(zone) != member:  # with another id, the zone begins anew
                self._drop(zone)
                log.info("Removed catalog member zone %s from catalog %s", names.to_text(zone), names.to_text(catalog))
        for zone, member in found.items():
            if zone in self._primaries:
                if self._members.get(zone) != (catalog, member):
                    text = "Skipping catalog member zone %s from %s: zone already exists"
                    log.warning(text, names.to_text(zone), names.to_text(catalog))
                continue
            self._members[zone], self._primaries[zone] = (catalog, member), self._primaries[catalog]
            self._follow(zone)
            if self._started:
                self._begin(zone)
            log.info("Added catalog member zone %s from catalog %s", names.to_text(zone), names.to_text(catalog))
        self._environment.invalidate((_MEMBERS,))

    def _drop(self, zone: bytes) -> None:
        del self._members[zone], self._primaries[zone]
        self._zones.remove(zone)
        self._payloads.pop(zone, None)
        self._refreshers.pop(zone, None)
        task = self._tasks.pop(zone, None)
        if task is not None:
            task.cancel()
            self._environment.publish(self.name, _content_key(zone), b"")

    def start(self) -> None:
        """Begins to transfer the zones, in one worker. Another worker asks that worker for zones that it lacks.

        A worker lacks zones if it starts after control was restarted, because control then has no published data.
        """
        self._started = True
        for apex in tuple(self._primaries):
            self._begin(apex)

    def _begin(self, apex: bytes) -> None:
        if self._environment.first:
            self._tasks[apex] = asyncio.ensure_future(self._keep(apex))
        elif not self._payloads[apex]:
            self._environment.publish(self.name, _wanted_key(apex), str(self._environment.clock()).encode())

    def stop(self) -> None:
        """Ends the transfers."""
        self._started = False
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._refreshers.clear()

    async def _keep(self, apex: bytes) -> None:
        environment = self._environment

        async def transferred(records: list[Record]) -> None:
            if apex in self._catalogs:
                members(apex, records)
            payload = await asyncio.to_thread(encode, records[0], records, 0)
            environment.publish(self.name, _content_key(apex), payload)
            for transfer in environment.peers("transfer"):
                transfer.notify(apex)

        def expired() -> None:
            environment.publish(self.name, _content_key(apex), b"")

        refresher = self._refreshers[apex] = ZoneRefresher(
            apex, self._primaries[apex], asyncio.get_running_loop().time, environment.log, transferred, expired,
            environment.poll_sockets,
        )  # fmt: skip
        zone = self._zones.get(apex)
        await refresher.run(None if zone is None else Timers.of(zone.soa))

    def notified(self, zone: bytes, address: str) -> bool:
        """Has a zone checked if the NOTIFY message comes from one of its primary servers."""
        if all(address != host for host, _ in self._primaries.get(zone, ())):
            return False
        environment, text = self._environment, names.to_text(zone)
        plugin_logger("file").info("Notify from %s for %s: checking transfer", address, text)  # as in CoreDNS
        environment.publish(self.name, _notify_key(zone), str(environment.clock()).encode())
        return True

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """Returns the zone's records for the plugin `transfer`; see `plugin_api.zone_transfer`."""
        return self._zones.offer(zone, serial)

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names in the plugin's zones.

        Other queries go to the next plugin, or get REFUSED if this plugin is the last one in the plugin chain.
        """
        if self._catalogs:
            self._environment.depends_on(_MEMBERS)
        apex = self._zones.find(query.key, query.rtype)
        if apex is None:
            behind = self._environment.peers("")
            return rcode_only(Rcode.REFUSED) if behind and behind[-1] is self else following(query)
        self._environment.depends_on(_dependency(apex))
        answer, may_fall_through = self._zones.answer(query, apex)
        if may_fall_through and any(names.is_within(query.key, zone) for zone in self._fallthrough):
            return following(query)
        return answer


def _content_key(apex: bytes) -> str:
    return f"zone {names.to_text(apex)}"


def _notify_key(apex: bytes) -> str:
    return f"notify {names.to_text(apex)}"


def _wanted_key(apex: bytes) -> str:
    return f"wanted {names.to_text(apex)}"


def _dependency(apex: bytes) -> Dependency:
    return ("secondary", names.to_text(apex))
