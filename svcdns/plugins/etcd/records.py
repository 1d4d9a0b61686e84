"""Makes records of services, as CoreDNS does (docs/behaviour/plugins.md#etcd).

The functions are generators. A generator yields the answers that it needs from other servers, is sent their replies,
and returns records.
"""

from __future__ import annotations

from collections.abc import Generator
from math import floor
from typing import Final

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.etcd.lookup import Found, Lookup, LookupFailedError, NoSuchNameError
from svcdns.wire import names
from svcdns.wire.codes import TC, Type
from svcdns.wire.record import Record

Steps = Generator[Answer, Reply, list[Record]]

MAX_CHAIN: Final = 10
"""The most CNAME records that may come before a further CNAME record."""
MAX_RECORDS: Final = 1000
"""The most records of a reply. To make more of them would delay other queries."""
SERVERS: Final = names.from_text("ns.dns.")[:-1]
"""The first labels of the name whose services are the name servers of a zone."""
APEX: Final = names.from_text("apex.dns.")[:-1]
"""The first labels of the name whose services have the addresses of a zone's own name."""


class Records:
    """Makes the records for one query, which is for a name in `zone`."""

    def __init__(self, query: Query, zone: bytes, lookup: Lookup) -> None:
        self._query, self._zone, self._lookup = query, zone, lookup
        self.additional: list[Record] = []
        self.is_truncated = False
        """True if the reply of another server was truncated."""

    def exists(self) -> None:
        """Raises NoSuchNameError if the query name does not exist. Call it for types of which etcd has no records."""
        self._apex_or_name(self._query.name, self._query.rtype)

    def chain(self, rtype: int) -> Steps:
        """Returns the records of type A, AAAA or TXT, with the CNAME records that lead to them."""
        return self._chain(self._query.name, rtype, ())

    def _chain(self, name: bytes, rtype: int, before: tuple[bytes, ...]) -> Steps:
        """`before` has the targets of the CNAME records that led to `name`."""
        find = self._lookup.services if rtype == Type.TXT else self._apex_or_name
        out: list[Record] = []
        seen: set[str] = set()
        for found in find(name, rtype):
            if len(out) >= MAX_RECORDS:
                break
            if found.kind == Type.CNAME:
                out += yield from self._alias(name, rtype, found, before)
            elif found.kind == rtype:
                text = found.service.text if rtype == Type.TXT else found.service.host
                if text not in seen:
                    seen.add(text)
                    rdata = _texts(text) if found.packed is None else found.packed[1]
                    out.append(Record(name, rtype, found.ttl, rdata))
        return out

    def _alias(self, name: bytes, rtype: int, found: Found, before: tuple[bytes, ...]) -> Steps:
        """Returns a CNAME record, and the records of its target."""
        target = found.name()
        key = target.lower()
        if names.is_within(key, name.lower()) or len(before) > MAX_CHAIN or target in before:
            return []
        alias = Record(name, Type.CNAME, found.ttl, target)
        if names.is_within(key, self._zone):
            try:
                records = yield from self._chain(target, rtype, (*before, target))
            except (NoSuchNameError, LookupFailedError):
                return []
            return [alias, *records] if records else []
        reply = yield self._query.ask(target, rtype)
        if rtype != Type.TXT:
            self.is_truncated = self.is_truncated or bool(reply.flags & TC)
        return [alias, *reply.answer]

    def canonical(self) -> list[Record]:
        """Returns the CNAME record of the name."""
        found = self._lookup.services(self._query.name, self._query.rtype, exact=True)
        if not found or found[0].packed is not None:
            return []
        return [Record(self._query.name, Type.CNAME, found[0].ttl, found[0].name())]

    def pointers(self) -> list[Record]:
        """Returns the PTR records of the name."""
        out: dict[str, Record] = {}
        for found in self._lookup.services(self._query.name, self._query.rtype, exact=True):
            if found.packed is None and found.service.host not in out:
                out[found.service.host] = Record(self._query.name, Type.PTR, found.ttl, found.name())
        return list(out.values())

    def name_servers(self) -> list[Record]:
        """Returns the NS records of the zone. Adds the addresses of the servers to `additional`."""
        out: dict[bytes, Record] = {}
        for found in self._lookup.services(SERVERS + self._zone, self._query.rtype):
            if found.kind == Type.CNAME:
                raise LookupFailedError(f"NS record must be an IP address: {found.service.host}")
            if found.packed is not None:
                server = found.target(found.own_name())
                self.additional.append(Record(server, found.packed[0], found.ttl, found.packed[1]))
                out.setdefault(server, Record(self._query.name, Type.NS, found.ttl, server))
        return list(out.values())

    def services(self) -> Steps:
        """Returns the SRV records of the name. Adds the addresses of their targets to `additional`."""
        found = self._lookup.services(self._query.name, self._query.rtype)
        weights: dict[int, int] = {}
        for one in found:
            priority = one.service.priority
            weights[priority] = weights.get(priority, 0) + (one.service.weight or 100)
        made = [
            (one, _numbers(one.service.priority, _weight(one, weights[one.service.priority]), one.service.port))
            for one in found
            if one.service.port != -1
        ]
        return (yield from self._with_targets(Type.SRV, made))

    def exchanges(self) -> Steps:
        """Returns the MX records of the name. Adds the addresses of their targets to `additional`."""
        found = self._lookup.services(self._query.name, self._query.rtype)
        made = [(one, _numbers(one.service.priority)) for one in found if one.service.makes_mx]
        return (yield from self._with_targets(Type.MX, made))

    def _with_targets(self, rtype: int, made: list[tuple[Found, bytes]]) -> Steps:
        """Returns records whose data are numbers and a target. Adds the targets' addresses to `additional`."""
        out: list[Record] = []
        seen: set[tuple[bytes, bytes]] = set()
        asked: set[bytes] = set()
        for found, numbers in made:
            if len(out) + len(self.additional) >= 2 * MAX_RECORDS:
                break
            if found.packed is not None:
                own = found.own_name()
                target = found.target(own)
                number = numbers[-2:]  # of the port, or of the preference
                if (target, number) not in seen:
                    seen.add((target, number))
                    out.append(Record(self._query.name, rtype, found.ttl, numbers + target))
                owner = target if rtype == Type.SRV else own
                if (owner, found.packed[1]) not in seen:
                    seen.add((owner, found.packed[1]))
                    self.additional.append(Record(owner, found.packed[0], found.ttl, found.packed[1]))
            elif found.kind == Type.CNAME:
                target = found.target(found.name())
                out.append(Record(self._query.name, rtype, found.ttl, numbers + target))
                if target not in asked:
                    asked.add(target)
                    self.additional += yield from self._addresses(target)
        return out

    def _addresses(self, target: bytes) -> Steps:
        """Returns the address records of a target. A target in the zone has only A records, as in CoreDNS."""
        if names.is_within(target.lower(), self._zone):
            try:
                return (yield from self._chain(target, Type.A, ()))
            except (NoSuchNameError, LookupFailedError):
                return []
        out: list[Record] = []
        reply = yield self._query.ask(target, Type.A)
        out += reply.answer
        reply = yield self._query.ask(target, Type.AAAA)
        return out + [record for record in reply.answer if record.rtype != Type.CNAME]

    def _apex_or_name(self, name: bytes, rtype: int) -> list[Found]:
        """Returns the services of a name. For the zone's own name, tries the keys below `dns/apex` first."""
        if name.lower() == self._zone:
            try:
                return self._lookup.services(APEX + self._zone, rtype)
            except NoSuchNameError:
                pass
        return self._lookup.services(name, rtype)


def _weight(found: Found, total: int) -> int:
    """Returns the weight of a service: its share of the weights of all services with its priority."""
    share = 100.0 / total * (found.service.weight or 100) if total else 0.0
    return max(1, floor(share) & 0xFFFF)


def _numbers(*values: int) -> bytes:
    return b"".join((value & 0xFFFF).to_bytes(2, "big") for value in values)


def _texts(text: str) -> bytes:
    """Returns the RDATA of a TXT record, in character strings of 255 octets. As in CoreDNS, a text of exactly that
    length is followed by an empty one.
    """
    octets = text.encode()
    parts = [octets[at : at + 255] for at in range(0, len(octets) + 1, 255)]
    return b"".join(bytes((len(part),)) + part for part in parts)
