"""Catalog zones (RFC 9432): a zone whose records name the zones that a secondary server serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from svcdns.errors import SvcdnsError
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

MAX_MEMBERS: Final = 10_000
"""The most zones of a catalog."""
_VERSION: Final = b"\x012"
"""The RDATA of the TXT record with the version."""
_COO: Final = b"\3coo"
"""The label of the property "change of ownership"."""


class CatalogError(SvcdnsError):
    """Raised if a zone is no valid catalog."""


class Catalog(NamedTuple):
    """The content of a catalog: the member id of each zone, and the catalog that a zone may move to (property `coo`).

    All names are in wire format and lower case. A member id is a name, such as `1.zones.catalog.example.`.
    """

    members: dict[bytes, bytes]
    new_owners: dict[bytes, bytes]


def read_catalog(catalog: bytes, records: Iterable[Record]) -> Catalog:
    """Returns the content of a catalog.

    Raises CatalogError if the version is not 2, if a member id has not exactly one zone, or if a zone has two ids.
    Raises CatalogError also if a zone has two properties `coo`.
    """
    text, zones = names.to_text(catalog), b"\5zones" + catalog
    versions: list[bytes] = []
    by_id: dict[bytes, bytes] = {}
    owner_by_id: dict[bytes, bytes] = {}
    for record in records:
        owner = record.owner.lower()
        if record.rtype == Type.TXT and owner == b"\7version" + catalog:
            versions.append(record.rdata)
        elif record.rtype == Type.PTR:
            is_coo = owner.startswith(_COO) and owner.endswith(zones) and owner != _COO + zones
            member, found = (owner[len(_COO) :], owner_by_id) if is_coo else (owner, by_id)
            if member[1 + member[0] :] == zones:
                if member in found:
                    raise CatalogError(f"catalog member {names.to_text(owner)} must have exactly one PTR record")
                found[member] = record.rdata.lower()
    if versions != [_VERSION]:
        raise CatalogError(f"catalog zone {text} must have exactly one version TXT record, with the version 2")
    if len(by_id) > MAX_MEMBERS:
        raise CatalogError(f"catalog zone {text} has more than {MAX_MEMBERS} zones")
    members = {zone: owner for owner, zone in by_id.items()}
    if len(members) < len(by_id):
        raise CatalogError(f"catalog zone {text} has two members for one zone")
    return Catalog(members, {by_id[member]: owner for member, owner in owner_by_id.items() if member in by_id})
