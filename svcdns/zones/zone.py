"""A zone in memory: its records by name and type, its zone cuts and empty non-terminals (RFC 1034 §4.3.2).

Names are wire names in lower case.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from svcdns.dnssec.signatures import canonical_order_key
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import serial_of
from svcdns.zones.content import covered, decode, portions
from svcdns.zones.history import since

RRset = tuple[Record, ...]
Node = Mapping[int, RRset]
"""The records of a name by type. The RRSIG records for all types are together in one item."""

NO_RECORDS: Final[Node] = {}


class Place(NamedTuple):
    """The result of `Zone.find`: the name whose records decide the answer.

    The name is a zone cut, the owner of a DNAME record, or the name that was searched. `node` is None if the name has
    no records.
    """

    name: bytes
    node: Node | None
    is_cut: bool = False
    is_dname: bool = False


class Zone:
    """The records of one zone. The object never changes: a new version of the zone is a new object."""

    def __init__(self, apex: bytes, payload: bytes, poll_sockets: Callable[[], object] = lambda: None) -> None:
        """`payload` is the zone as `content.encode` encoded it.

        `poll_sockets` is called after each portion of records, so that a large zone does not delay queries.
        """
        content = decode(payload)
        poll_sockets()
        self.apex = apex
        self.soa = content.soa
        self._nodes: dict[bytes, dict[int, RRset]] = {apex: {Type.SOA: (content.soa,)}}
        self._denials = content.denials
        self._history = content.history
        self._names = {apex}
        for records in portions(content):
            for record in records:
                self._add(record)
            poll_sockets()

    def _add(self, record: Record) -> None:
        owner, rtype = record.owner.lower(), record.rtype
        node = self._nodes.get(owner)
        if node is None:
            node = self._nodes[owner] = {}
            for suffix in names.suffixes(owner):
                if suffix in self._names:
                    break
                self._names.add(suffix)
        before = node.get(rtype)
        if before is None:
            node[rtype] = (record,)
        elif all(record.rdata != other.rdata for other in before):
            node[rtype] = _with_one_ttl((*before, record))

    def parts(self) -> list[object]:
        """Returns a list of the objects of which the zone consists."""
        return [*self._nodes, *self._names, *self._nodes.values()]

    @property
    def ns(self) -> RRset:
        """Returns the NS records at the zone's own name."""
        return self._nodes[self.apex].get(Type.NS, ())

    @property
    def is_signed(self) -> bool:
        """Returns True if the zone has NSEC records."""
        return bool(self._denials)

    def node(self, name: bytes) -> Node:
        """Returns the records of a name by type, or an empty result."""
        return self._nodes.get(name, NO_RECORDS)

    def exists(self, name: bytes) -> bool:
        """Returns True if the name, or a name below it, has records."""
        return name in self._names

    def find(self, name: bytes, rtype: int) -> Place:
        """Returns the first zone cut or owner of a DNAME record on the way from the apex down to the name.

        If there is none, returns the name itself. A zone cut at the name of a DS query is ignored (RFC 4035 §3.1.4.1).
        """
        for suffix in reversed(names.suffixes(name)):
            node = self._nodes.get(suffix)
            if node is None or not suffix.endswith(self.apex):
                continue
            if suffix != name and Type.DNAME in node:
                return Place(suffix, node, is_dname=True)
            if Type.NS in node and suffix != self.apex and not (suffix == name and rtype == Type.DS):
                return Place(suffix, node, is_cut=True)
        return Place(name, self._nodes.get(name))

    def closest_encloser(self, name: bytes) -> bytes:
        """Returns the closest encloser (RFC 4592 §3.3.1). Call it only for a name that does not exist."""
        return next(suffix for suffix in names.suffixes(name)[1:] if suffix in self._names)

    def denial_of(self, name: bytes) -> bytes | None:
        """Returns the owner of the NSEC record that covers or matches a name.

        Returns None if the zone has no NSEC records.
        """
        at = bisect_right(self._denials, canonical_order_key(name), key=canonical_order_key)
        return self._denials[at - 1] if at else None

    # -- transfers

    def offer(self, serial: int) -> ZoneOffer:
        """Returns the zone's records for a transfer.

        The records are grouped by name, and the names are in the order of the file. If `serial` is the zone's serial,
        only the SOA record is transferred. If the history has the version `serial`, the differences are transferred.
        """
        if serial and serial == serial_of(self.soa):
            return ZoneOffer(self.soa, None)
        differences = since(self._history, serial) if serial and self._history else None
        return ZoneOffer(self.soa, differences or self._whole(), is_incremental=differences is not None)

    def _whole(self) -> Iterator[RRset]:
        yield (self.soa,)
        for name, node in self._nodes.items():
            for rtype, rrset in node.items():
                if not (rtype == Type.SOA and name == self.apex):
                    yield rrset
        yield (self.soa,)


def _with_one_ttl(rrset: RRset) -> RRset:
    """Returns the records of one type with the lowest of their TTLs in each (RFC 2181 §5.2).

    For RRSIG records, only the signatures of one type get the same TTL: that of the last record in `rrset`.
    """
    last = rrset[-1]
    same_rrset = [record for record in rrset if record.rtype != Type.RRSIG or covered(record) == covered(last)]
    lowest = min(record.ttl for record in same_rrset)
    if all(record.ttl == lowest for record in same_rrset):
        return rrset
    return tuple(Record(r.owner, r.rtype, lowest, r.rdata, r.rclass) if r in same_rrset else r for r in rrset)
