"""A zone in memory: its records by name and type, its cuts, its empty non-terminals (RFC 1034 §4.3.2)."""

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
    """One zone, never changed after it is made."""

    def __init__(self, apex: bytes, content: bytes) -> None:
        """`apex` is lowered; `content` is what `gather` encoded."""
        self.apex = apex
        self.nodes: dict[bytes, dict[int, RRset]] = {}
        for record in _records.decode(content):
            node = self.nodes.setdefault(record.owner.lower(), {})
            before = node.get(record.rtype, ())
            if all(record.rdata != other.rdata for other in before):
                node[record.rtype] = (*before, record)
        self._names = {suffix for name in self.nodes for suffix in names.suffixes(name) if names.is_within(suffix, apex)}

    @property
    def soa(self) -> RRset:
        """The zone's SOA."""
        return self.nodes[self.apex][Type.SOA]

    @property
    def ns(self) -> RRset:
        """The zone's own NS records."""
        return self.nodes[self.apex].get(Type.NS, ())

    def offer(self, serial: int) -> ZoneOffer:
        """The whole zone, name by name in the order of the file; its SOA alone where `serial` is the current one."""
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
        """The records of a lowered name and type."""
        return self.nodes.get(name, {}).get(rtype, ())

    def exists(self, name: bytes) -> bool:
        """Whether the name has records, or names below it have."""
        return name in self._names

    def cut_above(self, name: bytes) -> bytes | None:
        """The delegation point at or above a name, below the apex; None inside the zone."""
        found = None
        for suffix in names.suffixes(name):
            if suffix == self.apex:
                return found
            if Type.NS in self.nodes.get(suffix, {}):
                found = suffix
        return found

    def dname_above(self, name: bytes) -> Record | None:
        """The DNAME record of an ancestor, RFC 6672 §2.2."""
        for suffix in names.suffixes(name)[1:]:
            rrset = self.rrset(suffix, Type.DNAME)
            if rrset:
                return rrset[0]
            if suffix == self.apex:
                return None
        return None

    def wildcard_for(self, name: bytes) -> dict[int, RRset] | None:
        """The node of the wildcard at the closest encloser (RFC 4592 §3.3.1), None without one."""
        for suffix in names.suffixes(name)[1:]:
            if self.exists(suffix):
                return self.nodes.get(b"\x01*" + suffix)
        return None
