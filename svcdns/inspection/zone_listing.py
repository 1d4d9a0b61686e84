"""Lists the names of a cluster with their records, and compares two lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from svcdns.inspection.offline import OfflineServer
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.wire import names
from svcdns.wire.codes import Type, type_text
from svcdns.wire.tool_messages import record_line

FORMAT: Final = 1

Listing = Mapping[tuple[str, str], tuple[str, ...]]
"""For each name and type: the RDATA of its records as text, sorted."""


class Changed(msgspec.Struct, frozen=True):
    """A name and type whose records differ. An empty list in `before` or `after` means that there are no records."""

    name: str
    type: str
    before: list[str]
    after: list[str]


class Difference(msgspec.Struct, frozen=True):
    """The names that appear, disappear or change between two states of a cluster."""

    format: int
    appear: list[Changed]
    vanish: list[Changed]
    change: list[Changed]


def schema() -> dict[str, Any]:
    """Returns the JSON schema of a difference."""
    return msgspec.json.schema(Difference)


def listing(server: OfflineServer, zone: str) -> Listing:
    """Returns all names of Services, ports and endpoints in a cluster zone (absolute text).

    The names are those of a zone transfer (RFC 5936), without the SOA and NS records of the zone.
    """
    wire = names.from_text(zone).lower()
    found: dict[tuple[str, str], dict[str, None]] = {}
    for handler in server.chains.handlers:
        offer = handler.transfer(wire, 0)
        if not isinstance(offer, ZoneOffer) or offer.records is None:
            continue
        for portion in offer.records:
            for record in portion:
                if record.rtype in (Type.SOA, Type.NS) or b"ns-dns" in record.owner:
                    continue
                line = record_line(record.owner, record.ttl, record.rtype, record.rdata)
                data = line.split(" ", 4)[4]
                key = names.to_text(record.owner).lower(), type_text(record.rtype)
                found.setdefault(key, {})[data] = None
    return {key: tuple(sorted(data)) for key, data in sorted(found.items())}


def difference(before: Listing, after: Listing) -> Difference:
    """Returns the difference between two listings."""

    def changed(key: tuple[str, str]) -> Changed:
        return Changed(*key, list(before.get(key, ())), list(after.get(key, ())))

    return Difference(
        FORMAT,
        [changed(key) for key in sorted(after.keys() - before.keys())],
        [changed(key) for key in sorted(before.keys() - after.keys())],
        [changed(key) for key in sorted(before.keys() & after.keys()) if before[key] != after[key]],
    )
