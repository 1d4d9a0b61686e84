"""Answers one query from one zone (RFC 1034 §4.3.2, RFC 4592, RFC 6672, RFC 4035 §3.1).

The rules are those of docs/behaviour/plugins.md#file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from svcdns.plugin_api.contract import then
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.record import Record
from svcdns.wire.signatures import covered_type
from svcdns.zones.content import covered
from svcdns.zones.zone import Node, Place, RRset, Zone

MAX_ALIASES: Final = 10
"""The most CNAME records that are followed inside a zone, as in CoreDNS. The client must query for the last target."""
MAX_NS_ALIASES: Final = 8
"""The same for a query for NS records; then the reply is SERVFAIL, as in CoreDNS."""
_ADDRESSES: Final = (Type.A, Type.AAAA)
_TARGET_AT: Final[dict[int, int]] = {Type.MX: 2, Type.SRV: 6, Type.SVCB: 2, Type.HTTPS: 2}
"""The number of octets before the target name in the RDATA. Addresses of the target go into the additional section."""
_AT_ALIASES: Final = (Type.CNAME, Type.NSEC, Type.RRSIG)
"""The types for which a query at a CNAME record is answered without following it (RFC 4035 §2.5)."""
_AT_APEX_ALIAS: Final = (*_AT_ALIASES, Type.SOA, Type.NS)
_DENIALS: Final = (Type.NSEC, Type.NSEC3)
_STAR: Final = b"\x01*"


class ZoneLookup:
    """Answers one query from one zone."""

    def __init__(self, zone: Zone, query: Query, is_nearest: Callable[[bytes], bool]) -> None:
        """`is_nearest(name)` is True if this zone is the longest of the plugin's zones that contain the name."""
        self._zone, self._query, self._is_nearest = zone, query, is_nearest
        self._signed = query.dnssec_ok
        self._answer: list[Record] = []
        self._proofs: list[Record] = []
        """NSEC records and their signatures, for the authority section."""
        self._followed = {query.key}
        self.may_fall_through = False
        """True if no record has the query name, so that the option `fallthrough` applies."""

    def run(self) -> Answer:
        """Returns the reply.

        If the server must first resolve the target of an alias, returns an answer that waits for it.
        """
        zone, rtype = self._zone, self._query.rtype
        name = self._query.name
        place = zone.find(self._query.key, rtype)
        while True:
            step = self._step(name, place)
            if isinstance(step, Reply):
                return step
            name, key = step, step.lower()
            if key in self._followed:
                return self._reply(Rcode.SERVFAIL, self._ns())  # RFC 1034 §3.6.2: a loop is an error
            self._followed.add(key)
            if not names.is_within(key, zone.apex):
                return self._ask(name)
            place = zone.find(key, rtype)
            if place.is_cut:
                continue
            if rtype == Type.NS and len(self._followed) > MAX_NS_ALIASES + 1:
                return self._reply(Rcode.SERVFAIL, self._ns())
            if place.node is None or place.is_dname or not self._is_nearest(key):
                return self._ask(name)
            if len(self._followed) > MAX_ALIASES:
                return self._reply(Rcode.NOERROR, self._ns())

    def _step(self, name: bytes, place: Place) -> Reply | bytes:
        """Returns the reply for `name`, or the target if `name` is an alias."""
        zone, key = self._zone, place.name
        if place.node is not None:
            if place.is_cut:
                return self._delegation(place.node)
            if place.is_dname:
                return self._dname(name, place.node[Type.DNAME][0], place.node)
            return self._at(name, key, place.node)
        if zone.exists(key):
            self.may_fall_through = not self._answer
            self._deny(key)
            return self._negative(Rcode.NOERROR)
        wildcard = _STAR + zone.closest_encloser(key)
        self._deny(key)
        if zone.exists(wildcard):
            node = zone.node(wildcard)
            if node:
                return self._at(name, wildcard, node)
            self._deny(wildcard)  # the wildcard is an empty non-terminal
            return self._negative(Rcode.NOERROR)
        self._deny(wildcard)
        self.may_fall_through = not self._answer
        return self._negative(Rcode.NXDOMAIN)

    def _at(self, name: bytes, owner: bytes, node: Node) -> Reply | bytes:
        """Returns the reply made from the records in `node`, or the target if they are an alias.

        `owner` is the owner of these records: `name`, or a wildcard that matches `name`.
        """
        rtype = self._query.rtype
        is_apex = owner == self._zone.apex
        # RFC 1034 §3.6.2 forbids a CNAME record at the apex. The zone's own SOA and NS records stay reachable.
        at_alias = rtype in node and rtype in (_AT_APEX_ALIAS if is_apex else _AT_ALIASES)
        if Type.CNAME in node and not at_alias:
            self._answer += _renamed(self._with_signatures(node, Type.CNAME), name)
            return node[Type.CNAME][0].rdata
        if rtype not in node:
            if self._signed:
                self._proofs += self._with_signatures(node, Type.NSEC)
            return self._negative(Rcode.NOERROR)
        records = self._with_signatures(node, rtype)
        self._answer += records if is_apex and rtype == Type.SOA else _renamed(records, name)
        if is_apex and rtype == Type.NS and len(self._followed) == 1:
            return self._reply(Rcode.NOERROR, (), self._glue(records))
        return self._reply(Rcode.NOERROR, self._ns(), self._targets())

    # -- ends

    def _negative(self, rcode: int) -> Reply:
        return self._reply(rcode, self._soa())

    def _delegation(self, node: Node) -> Reply:
        servers = node[Type.NS]
        if self._signed:
            # The parent says whether the child zone is signed (RFC 4035 §3.1.4).
            self._proofs += self._with_signatures(node, Type.DS if Type.DS in node else Type.NSEC)
        return self._reply(Rcode.NOERROR, servers, self._glue(servers))

    def _dname(self, name: bytes, dname: Record, node: Node) -> Reply | bytes:
        """Adds a DNAME record, and the CNAME record made from it, to the answer (RFC 6672 §3.1).

        Returns the target of the CNAME record, or the reply if the lookup ends here.
        """
        target = name[: len(name) - len(dname.owner)] + dname.rdata
        self._answer += self._with_signatures(node, Type.DNAME)
        if len(target) > names.MAX_NAME:
            return self._reply(Rcode.YXDOMAIN)
        if target.lower() == name.lower():
            self._answer.clear()
            return self._reply(Rcode.SERVFAIL)
        self._answer.append(Record(name, Type.CNAME, dname.ttl, target))
        return target if self._query.rtype != Type.CNAME else self._reply(Rcode.NOERROR, self._ns())

    def _ask(self, target: bytes) -> Answer:
        """Queries the server for the target of an alias."""
        found = self._query.ask(target, self._query.rtype)

        def add(other: Reply) -> Reply:
            self._answer += () if other.dropped else other.answer
            return self._after(other)

        return then(found, add)

    def _after(self, other: Reply) -> Reply:
        """Returns this zone's reply, completed with `other`, the server's reply for the target of the last alias.

        The rcode is that of `other` (RFC 6604 §3). As in CoreDNS, rcodes other than NXDOMAIN and SERVFAIL become
        NOERROR.
        """
        if other.dropped or other.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.SERVFAIL):
            return self._reply(Rcode.NOERROR, self._ns(), self._targets())
        has_soa = any(record.rtype == Type.SOA for record in other.authority)
        if has_soa and other.rcode != Rcode.SERVFAIL:
            return self._reply(other.rcode, other.authority)
        if other.rcode == Rcode.NXDOMAIN:
            return self._reply(other.rcode, self._soa())
        if other.rcode == Rcode.NOERROR and not other.answer:
            return self._reply(other.rcode, other.authority or self._soa(), other.additional)  # a referral, or NODATA
        if self._signed:  # the target may come from a wildcard (RFC 4035 §3.1.3.3)
            self._proofs += [record for record in other.authority if covered_type(record) in _DENIALS]
        return self._reply(other.rcode, self._ns(), self._targets())

    def _reply(self, rcode: int, authority: RRset = (), additional: RRset = ()) -> Reply:
        referral = not self._answer and any(record.rtype == Type.NS for record in authority) and rcode == Rcode.NOERROR
        is_failure = not self._answer and rcode == Rcode.SERVFAIL
        return Reply(
            rcode=rcode,
            flags=self._query.reply_flags | (0 if referral or is_failure else AA),
            answer=tuple(self._answer),
            authority=(*authority, *dict.fromkeys(self._proofs)),
            additional=additional,
            lifetime=UNTIL_CHANGED,
        )

    # -- sections

    def _with_signatures(self, node: Node, rtype: int) -> RRset:
        records = node.get(rtype, ())
        if not self._signed or not records or Type.RRSIG not in node or rtype == Type.RRSIG:
            return records
        return (*records, *(signature for signature in node[Type.RRSIG] if covered(signature) == rtype))

    def _ns(self) -> RRset:
        return self._with_signatures(self._zone.node(self._zone.apex), Type.NS)

    def _soa(self) -> RRset:
        """Returns the SOA record for a negative answer, with the TTL that RFC 2308 §3 requires."""
        soa = self._zone.soa
        ttl = min(soa.ttl, int.from_bytes(soa.rdata[-4:], "big"))
        records = self._with_signatures(self._zone.node(self._zone.apex), Type.SOA)
        return tuple(msgspec.structs.replace(record, ttl=min(record.ttl, ttl)) for record in records)

    def _deny(self, name: bytes) -> None:
        """Adds the NSEC record that proves that a name, or its records of the queried type, do not exist.

        Adds nothing if the query does not have the DO bit.
        """
        owner = self._zone.denial_of(name) if self._signed else None
        if owner is not None:
            self._proofs += self._with_signatures(self._zone.node(owner), Type.NSEC)

    def _glue(self, servers: Iterable[Record]) -> RRset:
        """Returns the addresses of the name servers whose names are at or below the delegated name."""
        found = [(server.owner.lower(), server.rdata) for server in servers if server.rtype == Type.NS]
        return self._addresses(target for owner, target in found if names.is_within(target.lower(), owner))

    def _targets(self) -> RRset:
        """Returns the addresses of the targets of the MX, SRV, SVCB and HTTPS records in the answer."""
        return self._addresses(
            names.read_name(record.rdata, _TARGET_AT[record.rtype])[0]
            for record in self._answer
            if record.rtype in _TARGET_AT
        )

    def _addresses(self, targets: Iterable[bytes]) -> RRset:
        out: list[Record] = []
        for key in dict.fromkeys(target.lower() for target in targets):
            if names.is_within(key, self._zone.apex):
                node = self._zone.node(key)
                for rtype in _ADDRESSES:
                    out += self._with_signatures(node, rtype)
        return tuple(out)


def wildcard_of(zone: Zone, query: Query) -> bytes | None:
    """Returns the wildcard name whose records answer a query, or None if no wildcard does."""
    place = zone.find(query.key, query.rtype)
    if place.node is not None or zone.exists(place.name):
        return None
    wildcard = _STAR + zone.closest_encloser(place.name)
    return wildcard if zone.node(wildcard) else None


def _renamed(rrset: Iterable[Record], name: bytes) -> RRset:
    """Returns copies of the records with `name` as their owner."""
    return tuple(Record(name, record.rtype, record.ttl, record.rdata) for record in rrset)
