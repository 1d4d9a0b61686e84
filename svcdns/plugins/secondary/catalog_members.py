"""The zones that catalogs add and remove (RFC 9432 §4.3.1, §5), each with the catalog that it belongs to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from typing import NamedTuple

from svcdns.plugins.secondary.catalog import Catalog
from svcdns.plugins.secondary.options import Options
from svcdns.wire import names


class Member(NamedTuple):
    """The catalog of a zone, and the zone's id in the catalog."""

    catalog: bytes
    ident: bytes


class CatalogMembers:
    """The members of all catalogs of a server block. Names are in wire format and lower case."""

    def __init__(
        self,
        options: Options,
        served: Container[bytes],
        add: Callable[[bytes, bytes], None],
        drop: Callable[[bytes], None],
        log: logging.Logger,
    ) -> None:
        """`served` has the zones of the plugin.

        `add(zone, catalog)` is called with a new member. A zone that moves from another catalog keeps its
        content. `drop(zone)` is called when a zone is no longer a member, or begins anew.
        """
        self._served, self._add, self._drop, self._log = served, add, drop, log
        self._allowed: dict[bytes, list[bytes]] = {
            names.from_text(zone).lower(): [names.from_text(text).lower() for text in rule.members]
            for rule in options.rules
            if rule.members is not None
            for zone in rule.zones
        }
        """The catalogs, each with the zones that its members must be in; empty for all."""
        self._contents: dict[bytes, Catalog] = {}
        self._members: dict[bytes, Member] = {}

    def __contains__(self, zone: bytes) -> bool:
        """Returns True if the zone is a catalog."""
        return zone in self._allowed

    def __bool__(self) -> bool:
        """Returns True if there are catalogs."""
        return bool(self._allowed)

    def apply(self, catalog: bytes, found: Catalog) -> None:
        """Adds and removes zones, so that the members of a catalog are those in `found`."""
        allowed = self._allowed[catalog]
        members = {
            zone: ident
            for zone, ident in found.members.items()
            if not allowed or any(names.is_within(zone, one) for one in allowed)
        }
        self._contents[catalog] = found._replace(members=members)
        for zone, member in tuple(self._members.items()):
            if member.catalog == catalog and members.get(zone) != member.ident:  # another id: the zone begins anew
                self._remove(zone, member)
        for zone, ident in members.items():
            self._claim(zone, Member(catalog, ident), logging.WARNING)
        for other, content in self._contents.items():  # zones that this catalog has released
            if other != catalog:
                for zone, ident in content.members.items():
                    self._claim(zone, Member(other, ident), logging.DEBUG)

    def _claim(self, zone: bytes, member: Member, level: int) -> None:
        owner = self._members.get(zone)
        if owner == member:
            return
        if owner is not None and self._contents[owner.catalog].new_owners.get(zone) == member.catalog:
            if names.labels_of(owner.ident)[0] != names.labels_of(member.ident)[0]:
                self._remove(zone, owner)  # another unique label: the zone begins anew
        elif zone in self._served:
            text = "Skipping catalog member zone %s from %s: zone already exists"
            self._log.log(level, text, names.to_text(zone), names.to_text(member.catalog))
            return
        self._members[zone] = member
        self._add(zone, member.catalog)
        self._log.info(
            "Added catalog member zone %s from catalog %s", names.to_text(zone), names.to_text(member.catalog)
        )

    def _remove(self, zone: bytes, member: Member) -> None:
        del self._members[zone]
        self._drop(zone)
        text = "Removed catalog member zone %s from catalog %s"
        self._log.info(text, names.to_text(zone), names.to_text(member.catalog))
