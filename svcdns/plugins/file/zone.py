"""A zone in memory: its records by name and type, its zone cuts, its empty non-terminals (RFC 1034 §4.3.2).

Names are wire names in lower case.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from svcdns.plugin_api.zone_transfer import ZoneOffer, serial_of
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

RRset = tuple[Record, ...]

_records = msgspec.msgpack.Decoder(list[Record])


class Zone:
    """One zone. It never changes: a new version of the zone is a new object."""

    def __init__(self, apex: bytes, content: bytes) -> None:
        """`content` has the records, encoded by `gather`."""
        self.apex = apex
        self.nodes: dict[bytes, dict[int, RRset]] = {}
        for record in _records.decode(content):
            node = self.nodes.setdefault(record.owner.lower(), {})
            before = node.get(record.rtype, ())
            if all(record.rdata != other.rdata for other in before):
                node[record.rtype] = (*before, record)
        self._names = {
            suffix for name in self.nodes for suffix in names.suffixes(name) if names.is_within(suffix, apex)
        }

    @property
    def soa(self) -> RRset:
        """The zone's SOA record."""
        return self.nodes[self.apex][Type.SOA]

    @property
    def ns(self) -> RRset:
        """The NS records of the zone itself."""
        return self.nodes[self.apex].get(Type.NS, ())

    def offer(self, serial: int) -> ZoneOffer:
        """The whole zone, by name in the order of the file; the SOA record alone if `serial` is the zone's serial."""
        soa = self.soa[0]
        return ZoneOffer(soa, None if serial and serial == serial_of(soa) else self._whole(soa))

    def _whole(self, soa: Record) -> Iterator[RRset]:
        yield (soa,)
        for name, node in self.nodes.items():
            for rtype, rrset in node.items():
                if not (rtype == Type.SOA and name == self.apex):
                    yield rrset
        yield (soa,)

    def rrset(self, name: bytes, rtype: int) -> RRset:
        """The records of a name and type."""
        return self.nodes.get(name, {}).get(rtype, ())

    def exists(self, name: bytes) -> bool:
        """Whether the name, or a name below it, has records."""
        return name in self._names

    def cut_above(self, name: bytes) -> bytes | None:
        """The zone cut at or above a name that is nearest to the apex; None if no cut is above it."""
        found = None
        for suffix in names.suffixes(name):
            if suffix == self.apex:
                return found
            if Type.NS in self.nodes.get(suffix, {}):
                found = suffix
        return found

    def dname_above(self, name: bytes) -> Record | None:
        """The DNAME record of the nearest ancestor that has one (RFC 6672 §2.2)."""
        for suffix in names.suffixes(name)[1:]:
            rrset = self.rrset(suffix, Type.DNAME)
            if rrset:
                return rrset[0]
            if suffix == self.apex:
                return None
        return None

    def wildcard_for(self, name: bytes) -> dict[int, RRset] | None:
        """The records of the wildcard at the closest encloser (RFC 4592 §3.3.1); None if there is none."""
        for suffix in names.suffixes(name)[1:]:
            if self.exists(suffix):
                return self.nodes.get(b"\x01*" + suffix)
        return None
