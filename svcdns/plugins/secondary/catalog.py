"""Catalog zones (RFC 9432): a zone whose records name the zones that a secondary server serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from svcdns.errors import SvcdnsError
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

MAX_MEMBERS: Final = 10_000
"""The most zones of a catalog."""
_VERSION: Final = b"\x012"
"""The RDATA of the TXT record with the version."""


class CatalogError(SvcdnsError):
    """Raised if a zone is no valid catalog."""


def members(catalog: bytes, records: Iterable[Record]) -> dict[bytes, bytes]:
    """Returns the zones of a catalog, each with its member id. All names are in wire format and lower case.

    Raises CatalogError if the version is not 2, if a member id has not exactly one zone, or if a zone has two ids.
    """
    text, zones = names.to_text(catalog), b"\5zones" + catalog
    versions: list[bytes] = []
    by_id: dict[bytes, bytes] = {}
    for record in records:
        owner = record.owner.lower()
        if record.rtype == Type.TXT and owner == b"\7version" + catalog:
            versions.append(record.rdata)
        elif record.rtype == Type.PTR and owner[1 + owner[0] :] == zones:
            if owner in by_id:
                raise CatalogError(f"catalog member {names.to_text(owner)} must have exactly one PTR record")
            by_id[owner] = record.rdata.lower()
    if versions != [_VERSION]:
        raise CatalogError(f"catalog zone {text} must have exactly one version TXT record, with the version 2")
    if len(by_id) > MAX_MEMBERS:
        raise CatalogError(f"catalog zone {text} has more than {MAX_MEMBERS} zones")
    found = {zone: owner for owner, zone in by_id.items()}
    if len(found) < len(by_id):
        raise CatalogError(f"catalog zone {text} has two members for one zone")
    return found
