"""The zones of one plugin: finds the zone of a name, and answers queries and transfers from it.

A zone may be in the set before its content is known. The content of such a zone is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.zones.lookup import ZoneLookup, wildcard_of
from svcdns.zones.zone import Zone

WILDCARD: Final = "zone/wildcard"
"""The label of metadata for the wildcard name whose records answer a query."""


class ZoneSet:
    """Zones by name. Names are in wire format and lower case."""

    def __init__(self, plugin: str) -> None:
        """`plugin` is the name of the plugin, for error texts."""
        self._plugin = plugin
        self._zones: dict[bytes, Zone | None] = {}

    def __iter__(self) -> Iterator[bytes]:
        """Yields the names of all zones, with or without content."""
        return iter(self._zones)

    def __contains__(self, apex: bytes) -> bool:
        """Returns True if there is a zone with exactly this name."""
        return apex in self._zones

    @property
    def loaded(self) -> list[bytes]:
        """Returns the names of the zones that have content."""
        return [apex for apex, zone in self._zones.items() if zone is not None]

    def put(self, apex: bytes, zone: Zone | None) -> list[object]:
        """Adds a zone, or replaces its content. Returns the parts of the earlier content.

        If `zone` is None, the zone has no content, and queries get SERVFAIL. If the caller drops the returned list in
        steps, the memory of a large zone is freed in steps.
        """
        before = self._zones.get(apex)
        parts = before.parts() if before is not None else []
        self._zones[apex] = zone
        return parts

    def get(self, apex: bytes) -> Zone | None:
        """Returns the content of a zone, or None if it has none."""
        return self._zones.get(apex)

    def remove(self, apex: bytes) -> None:
        """Removes a zone, if it is there."""
        self._zones.pop(apex, None)

    def find(self, key: bytes, rtype: int = Type.A) -> bytes | None:
        """Returns the longest zone that contains the name `key`, or None.

        A DS query for the name of a zone belongs to the parent zone, if it is in the set (RFC 4035 §3.1.4.1).
        """
        found = None
        for suffix in names.suffixes(key):
            if suffix in self._zones:
                if rtype != Type.DS or suffix != key:
                    return suffix
                found = suffix
        return found

    def answer(self, query: Query, apex: bytes) -> tuple[Answer, bool]:
        """Answers a query from the zone `apex`.

        The second value is True if the query name does not exist, so that the option `fallthrough` applies.
        """
        zone = self._zones.get(apex)
        if zone is None:
            return rcode_only(Rcode.SERVFAIL, f"zone {names.to_text(apex)} is not loaded"), False
        if query.rtype in (Type.AXFR, Type.IXFR):
            return rcode_only(Rcode.REFUSED), False
        lookup = ZoneLookup(zone, query, lambda key: self.find(key) == apex)
        answer = lookup.run()
        if isinstance(answer, Reply) and answer.rcode == Rcode.NXDOMAIN and query.key in self._zones:
            # A DS query for a zone of this plugin that the parent zone does not delegate. The name exists all the same.
            return msgspec.structs.replace(answer, rcode=Rcode.NOERROR), False
        return answer, lookup.may_fall_through

    def wildcard(self, query: Query) -> str:
        """Returns the wildcard name whose records answer a query, as text; empty if no wildcard does."""
        apex = self.find(query.key, query.rtype)
        zone = None if apex is None else self._zones[apex]
        found = None if zone is None else wildcard_of(zone, query)
        return "" if found is None else names.to_text(found)

    @staticmethod
    def outside(plugin: Plugin, query: Query, following: Following, peers: Sequence[Plugin]) -> Answer:
        """Passes a query for a name outside of all zones on. If `plugin` is the last of `peers`, refuses the query."""
        return rcode_only(Rcode.REFUSED) if peers and peers[-1] is plugin else following(query)

    def offer(self, apex: bytes, serial: int) -> ZoneOffer | None:
        """Returns a zone for the hook `Plugin.transfer`, or None if there is no such zone. Raises UnavailableError."""
        if apex not in self._zones:
            return None
        zone = self._zones[apex]
        if zone is None:
            raise UnavailableError(f"plugin/{self._plugin}: zone {names.to_text(apex)} is not loaded")
        return zone.offer(serial)
