"""The base class of plugins that answer from zones of a DNS provider (docs/behaviour/plugins.md#route53).

The control process fetches the zones, and sends them to the workers. A reply has the zones that were searched for it as
dependencies, so the answer table keeps the reply until one of these zones changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from svcdns.cluster.changes import Dependency
from svcdns.corefile.zones import is_reverse
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.zones.content import PORTION
from svcdns.zones.hosted_zones import Options, RefreshState, ZoneGroup, decode_state, state_key
from svcdns.zones.lookup import ZoneLookup, wildcard_of
from svcdns.zones.metrics import FAILED_FETCHES, LAST_FETCH
from svcdns.zones.zone import Zone
from svcdns.zones.zone_set import WILDCARD


class _Group:
    """The zones of one directive, by name. Several hosted zones may have one name."""

    def __init__(self, group: ZoneGroup) -> None:
        self.keys: dict[bytes, list[str]] = {}
        for hosted in group.source.hosted:
            self.keys.setdefault(names.from_text(hosted.zone).lower(), []).append(group.source.key(hosted))
        self._fallthrough = [names.from_text(zone).lower() for zone in group.fallthrough]

    def find(self, key: bytes) -> bytes | None:
        """Returns the longest zone that contains the name `key`, or None."""
        return next((suffix for suffix in names.suffixes(key) if suffix in self.keys), None)

    def falls_through(self, key: bytes) -> bool:
        return any(names.is_within(key, zone) for zone in self._fallthrough)


class HostedZonePlugin(Plugin):
    """Answers queries in the hosted zones of one server block. A subclass sets `name`."""

    metadata_names = ("zone",)

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the zones that the control process has sent, and registers for the zones that it sends later."""
        self.options, self._environment = options, environment
        self._groups = [_Group(group) for group in options.groups]
        self._zones: dict[str, Zone | None] = {}
        """By key: the content of each hosted zone. None for a zone without a SOA record."""
        self._states: dict[str, RefreshState] = {}
        self._labels: dict[str, tuple[str, str, str]] = {}
        """By key: the label values of the zone's metrics."""
        self._unused: list[object] = []
        for options_group, group in zip(options.groups, self._groups, strict=True):
            for apex, keys in group.keys.items():
                for key in keys:
                    self._follow(apex, key)
            for hosted in options_group.source.hosted:
                self._labels[options_group.source.key(hosted)] = self.name, hosted.zone, hosted.ident

    @property
    def _apexes(self) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys(apex for group in self._groups for apex in group.keys))

    @property
    def own_zones(self) -> Sequence[bytes]:  # type: ignore[override]
        """Returns the zones of the plugin, except reverse zones."""
        return tuple(apex for apex in self._apexes if not is_reverse(names.to_text(apex)))

    # -- data

    def _follow(self, apex: bytes, key: str) -> None:
        if key in self._zones:
            return

        def load(content: bytes) -> None:
            before = self._zones.get(key)
            self._zones[key] = Zone(apex, content, self._environment.poll_sockets) if content else None
            self._unused += before.parts() if before is not None else []

        def loaded(content: bytes) -> None:
            load(content)
            self._environment.invalidate((self._dependency(key),))
            self._free()

        def refreshed(content: bytes) -> None:
            self._states[key] = decode_state(content)

        load(self._environment.data(self.name, key) or b"")
        refreshed(self._environment.data(self.name, state_key(key)) or b"\x90")
        self._environment.on_data(self.name, key, loaded)
        self._environment.on_data(self.name, state_key(key), refreshed)

    def _dependency(self, key: str) -> Dependency:
        return (self.name, key)

    def _free(self) -> None:
        """Frees the earlier content of a zone in steps, so that a large zone does not delay queries."""
        while self._unused:
            del self._unused[-PORTION:]
            self._environment.poll_sockets()

    def start(self) -> None:
        """Sets the metrics."""
        self.tick()

    def tick(self) -> None:
        """Sets the metrics of each hosted zone."""
        counters = self._environment.counters
        for key, labels in self._labels.items():
            state = self._states[key]
            counters.set(counters.cell(FAILED_FETCHES, *labels), float(state.failed))
            counters.set(counters.cell(LAST_FETCH, *labels), float(state.fetched))

    # -- queries

    def name_independent(self, zone: bytes) -> bool:
        """Returns True if the zone has no name in common with this plugin's zones."""
        return not any(names.is_within(zone, own) or names.is_within(own, zone) for own in self._apexes)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Excludes the plugin's zones from the fast path (forwarding without the plugin chain), and returns True."""
        fast_path.zones += self._apexes
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:
        """Adds `_passes` to the cold path (replies without the plugin chain), and returns True."""
        cold_path.passes += (self._passes,)
        return True

    def _passes(self, key: bytes, _rtype: int) -> tuple[Dependency, ...] | None:
        """Returns no dependencies for a name outside of all zones, or None if `handle` must answer for the name."""
        return None if any(group.find(key) is not None for group in self._groups) else ()

    def metadata(self, query: Query, label: str) -> str:
        """Returns the wildcard name whose records answer the query, for the label `zone/wildcard`."""
        found = (self._wildcard(group, query) for group in self._groups if group.find(query.key) is not None)
        return next(found, "") if label == WILDCARD else ""

    def _wildcard(self, group: _Group, query: Query) -> str:
        for key in group.keys[group.find(query.key) or b""]:
            zone = self._zones[key]
            found = None if zone is None else wildcard_of(zone, query)
            if found is not None:
                return names.to_text(found)
            if zone is not None and zone.node(query.key):
                break
        return ""

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names in the plugin's zones. Other queries go to the next plugin."""
        return self._from(0, following, query)

    def _from(self, number: int, following: Following, query: Query) -> Answer:
        """Answers from the directive `number`. A query that it does not answer goes to the next directive."""
        if number == len(self._groups):
            return following(query)
        group = self._groups[number]
        apex = group.find(query.key)
        rest = partial(self._from, number + 1, following)
        if apex is None:
            return rest(query)
        answer: Answer = rcode_only(Rcode.SERVFAIL)
        for key in group.keys[apex]:
            self._environment.depends_on(self._dependency(key))
            answer, is_final = self._lookup(self._zones[key], query)
            if is_final:
                return answer
        return rest(query) if group.falls_through(query.key) else answer

    def _lookup(self, zone: Zone | None, query: Query) -> tuple[Answer, bool]:
        """Answers from one hosted zone. The second value is False if another zone of the same name may answer."""
        if zone is None:
            return rcode_only(Rcode.SERVFAIL), False
        lookup = ZoneLookup(zone, query, lambda _: True)
        answer = lookup.run()
        if not isinstance(answer, Reply):
            return then(answer, _without_records), True  # the reply has a CNAME record, and so is final
        is_final = bool(answer.answer) or (_is_nodata(answer) and not lookup.may_fall_through)
        return _without_records(answer), is_final


def _without_records(reply: Reply) -> Reply:
    """Returns a reply with SERVFAIL without its records, as CoreDNS does, and any other reply unchanged."""
    return rcode_only(Rcode.SERVFAIL) if reply.rcode == Rcode.SERVFAIL else reply


def _is_nodata(reply: Reply) -> bool:
    return reply.rcode == Rcode.NOERROR and any(record.rtype == Type.SOA for record in reply.authority)
