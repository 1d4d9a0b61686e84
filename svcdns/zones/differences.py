"""Differences between versions of a zone: computes them, and applies those of a transfer (RFC 1995).

Rules:

1. The records of a version are those that the server answers with: each record once, and with one TTL for each RRset.
2. Differences are applied only if each deleted record exists, and no added record exists with another TTL. Some servers
   (NSD) add records that exist.
"""

from __future__ import annotations

from collections.abc import Iterable

from svcdns.errors import SvcdnsError
from svcdns.wire import names
from svcdns.wire.codes import Type, type_text
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import Difference, serial_of
from svcdns.zones.content import covered

_Key = tuple[bytes, int, bytes]
"""Owner name in lower case, type and RDATA of a record."""


class DifferenceError(SvcdnsError):
    """Raised if differences do not fit the version that they are applied to."""


def applied(soa: Record, records: Iterable[Record], differences: Iterable[Difference]) -> tuple[Record, list[Record]]:
    """Returns the SOA record and the other records after the differences. Raises DifferenceError."""
    found = {_key(record): record for record in records}
    for difference in differences:
        if serial_of(difference.before) != serial_of(soa):
            raise DifferenceError(f"the differences are from serial {serial_of(difference.before)}")
        for record in difference.deleted:
            if found.pop(_key(record), None) is None:
                raise DifferenceError(f"a deleted record does not exist: {_text(record)}")
        for record in difference.added:
            if found.setdefault(_key(record), record).ttl != record.ttl:
                raise DifferenceError(f"an added record exists with another TTL: {_text(record)}")
        soa = difference.after
    return soa, list(found.values())


def between(before: Record, old: Iterable[Record], after: Record, new: Iterable[Record]) -> Difference:
    """Returns the difference between two versions. `before` and `after` are their SOA records."""
    earlier, later = _served(old), _served(new)
    deleted = [record for key, record in earlier.items() if key not in later or later[key].ttl != record.ttl]
    added = [record for key, record in later.items() if key not in earlier or earlier[key].ttl != record.ttl]
    return Difference(before, deleted, after, added)


def _served(records: Iterable[Record]) -> dict[_Key, Record]:
    found: dict[_Key, Record] = {}
    ttls: dict[tuple[bytes, int, int], int] = {}
    for record in records:
        if found.setdefault(_key(record), record) is record:
            rrset = _rrset(record)
            ttls[rrset] = min(record.ttl, ttls.get(rrset, record.ttl))
    for key, record in found.items():
        ttl = ttls[_rrset(record)]
        if record.ttl != ttl:
            found[key] = Record(record.owner, record.rtype, ttl, record.rdata, record.rclass)
    return found


def _key(record: Record) -> _Key:
    return record.owner.lower(), record.rtype, record.rdata


def _rrset(record: Record) -> tuple[bytes, int, int]:
    return record.owner.lower(), record.rtype, covered(record) if record.rtype == Type.RRSIG else 0


def _text(record: Record) -> str:
    return f"{names.to_text(record.owner)} {type_text(record.rtype)}"
