"""Reads the records of a zone transfer: a whole zone (RFC 5936 §2.2), or its differences from another version (RFC 1995
§4).

Rules:

1. A transfer that breaks a rule of these RFCs raises FormError, and nothing of it is used.
2. Records outside of the zone, and records of a class other than IN, are left out.
3. The number and the size of the records are bounded.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from svcdns.wire import names
from svcdns.wire.codes import Class, Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Record

MAX_RECORDS: Final = 2_000_000
"""The most records of a transfer."""
MAX_OCTETS: Final = 256 << 20
"""The most octets of the records of a transfer, with uncompressed names."""
_OVERHEAD: Final = 16
"""Octets that are counted for each record, in addition to its owner name and its RDATA."""


class Difference(NamedTuple):
    """The difference between two versions of a zone.

    `before` and `after` are their SOA records. `deleted` and `added` have the other records that only one version has.
    """

    before: Record
    deleted: list[Record]
    after: Record
    added: list[Record]


class ZoneTransfer(NamedTuple):
    """A complete transfer, with the SOA record of the version that it leads to.

    `records` has the other records of a whole zone, or is None for an incremental transfer. Then `differences` lead
    from the client's version to the new one. There are none if the client's version is current.
    """

    soa: Record
    records: list[Record] | None
    differences: list[Difference]


class TransferReader:
    """Reads the records of one transfer, in the order of the messages."""

    def __init__(self, zone: bytes, serial: int | None = None) -> None:
        """`zone` is in lower case. `serial` is the serial in the IXFR query; None for AXFR."""
        self._zone, self._serial = zone, serial
        self._soa: Record | None = None
        self._is_second = False
        self._records: list[Record] = []
        """The records of a whole zone, or those that the present difference deletes or adds."""
        self._differences: list[Difference] | None = None
        self._deleted: tuple[Record, list[Record]] | None = None
        """The old SOA record and the deleted records of the present difference, while its added records are read."""
        self._before: Record | None = None
        """The old SOA record of the present difference, while its deleted records are read."""
        self._after: Record | None = None
        self._count = self._octets = 0

    def read(self, records: tuple[Record, ...]) -> ZoneTransfer | None:
        """Reads the answer section of the next message. Returns the transfer if it is complete. Raises FormError."""
        if not records:
            raise FormError("a message of the transfer has no records")
        for record in records:
            done = self._read(record)
            if done is not None:
                return done
        soa, serial = self._soa, self._serial
        if soa is None or serial is None or not self._is_second or is_newer(serial_of(soa), serial):
            return None
        return ZoneTransfer(soa, None, [])

    def _read(self, record: Record) -> ZoneTransfer | None:
        self._count += 1
        self._octets += len(record.owner) + len(record.rdata) + _OVERHEAD
        if self._count > MAX_RECORDS:
            raise FormError(f"the zone has more than {MAX_RECORDS} records")
        if self._octets > MAX_OCTETS:
            raise FormError(f"the zone has more than {MAX_OCTETS} octets")
        if record.rtype == Type.SOA and record.owner.lower() == self._zone:
            return self._read_soa(record)
        if self._soa is None:
            raise FormError("the transfer does not begin with the SOA record")
        self._is_second = False
        if record.rclass == Class.IN and names.is_within(record.owner.lower(), self._zone):
            self._records.append(record)
        return None

    def _read_soa(self, soa: Record) -> ZoneTransfer | None:
        first = self._soa
        if first is None:
            self._soa, self._is_second = soa, True
            return None
        if self._is_second and self._serial is not None and not _is_same(soa, first):
            if serial_of(soa) != self._serial:
                raise FormError("the differences begin with another version")
            self._is_second, self._differences, self._before = False, [], soa
            return None
        self._is_second = False
        if self._differences is None:
            if not _is_same(soa, first):
                raise FormError("the transfer ends with another SOA record")
            return ZoneTransfer(first, self._records, [])
        return self._read_inner_soa(soa, first, self._differences)

    def _read_inner_soa(self, soa: Record, last: Record, found: list[Difference]) -> ZoneTransfer | None:
        """Reads an SOA record of a reply with differences: a new version, an old version, or the end."""
        if self._before is not None:
            if not is_newer(serial_of(soa), serial_of(self._before)):
                raise FormError("a difference does not lead to a newer version")
            self._deleted, self._before, self._records, self._after = (self._before, self._records), None, [], soa
            return None
        assert self._deleted is not None
        assert self._after is not None
        if not _is_same(soa, self._after):
            raise FormError("the differences are not of successive versions")
        found.append(Difference(*self._deleted, self._after, self._records))
        self._records, self._deleted, self._before = [], None, soa
        return ZoneTransfer(last, None, found) if _is_same(soa, last) else None


def _is_same(soa: Record, other: Record) -> bool:
    """Returns True if two SOA records are equal. Servers may compress names with other letter case."""
    one, two = soa.rdata, other.rdata
    return one[-20:] == two[-20:] and one[:-20].lower() == two[:-20].lower()


def serial_of(soa: Record) -> int:
    """Returns the serial in an SOA record (RFC 1035 §3.3.13)."""
    return int.from_bytes(soa.rdata[-20:-16], "big")


def is_newer(serial: int, than: int) -> bool:
    """Returns True if a serial is greater than another one (RFC 1982 §3.2)."""
    return 0 < (serial - than) % (1 << 32) < 1 << 31
