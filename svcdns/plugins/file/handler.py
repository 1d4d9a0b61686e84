"""The `file` plugin: authoritative answers from zone files (RFC 1034 §4.3.2).

Control reads the files; this module receives each zone whole, in the form that `options.gather` encodes, and never
opens a file. A reply depends on its zone, so the answer table keeps it until the zone changes.
The rules are those of docs/behaviour/plugins.md#file.
"""

from __future__ import annotations

from typing import Final

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer
from svcdns.plugins.file.options import Options, ZoneFile, data_key
from svcdns.plugins.file.zone import RRset, Zone
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.record import Record

MAX_ALIASES: Final = 8
_ADDRESSES: Final = (Type.A, Type.AAAA)
_TARGET_AT: Final[dict[int, int]] = {Type.MX: 2, Type.SRV: 6, Type.SVCB: 2, Type.HTTPS: 2, Type.NS: 0}
"""Octets of RDATA before the target, for types whose targets have their addresses in the additional section."""


class File(Plugin):
    """Answers the zones of one server block."""

    name = "file"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Control provides the zones, now or later."""
        self._environment, self._started = environment, False
        self._files: dict[bytes, ZoneFile] = {}
        self._zones: dict[bytes, Zone] = {}
        for file in options.files:
            for zone in file.zones:
                self._serve(file, zone)
        self._longest_first = sorted(self._files, key=len, reverse=True)

    def _serve(self, file: ZoneFile, zone: str) -> None:
        apex, key = names.from_text(zone).lower(), data_key(file.path, zone)
        self._files[apex] = file

        def loaded(content: bytes) -> None:
            self._zones[apex] = Zone(apex, content)
            self._environment.invalidate((_dependency(apex),))
            self._notify(apex)

        content = self._environment.data("file", key)
        if content is not None:
            self._zones[apex] = Zone(apex, content)
        self._environment.on_data("file", key, loaded)

    def start(self) -> None:
        """Notifies the secondaries of the zones that are loaded already."""
        self._started = True
        for apex in self._zones:
            self._notify(apex)

    def _notify(self, apex: bytes) -> None:
        if self._started and self._environment.first:
            for transfer in self._environment.peers("transfer"):
                transfer.notify(apex)

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """The zone for `transfer`; see `plugin_api.zone_transfer`."""
        if zone not in self._files:
            return None
        found = self._zones.get(zone)
        if found is None:
            raise UnavailableError(f"plugin/file: zone {names.to_text(zone)} is not loaded")
        return found.offer(serial)

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers names in the plugin's zones. All other queries go to the next plugin."""
        apex = next((zone for zone in self._longest_first if names.is_within(query.key, zone)), None)
        if apex is None:
            return following(query)
        self._environment.depends_on(_dependency(apex))
        zone = self._zones.get(apex)
        if zone is None:
            return rcode_only(Rcode.SERVFAIL, f"zone {names.to_text(apex)} is not loaded")
        if query.rtype in (Type.AXFR, Type.IXFR):
            return rcode_only(Rcode.REFUSED)
        answer = _ZoneLookup(zone, query).run()
        if isinstance(answer, Reply) and not answer.answer and answer.rcode == Rcode.NXDOMAIN:
            fallthrough = self._files[apex].fallthrough
            if any(names.is_within(query.key, names.from_text(text).lower()) for text in fallthrough):
                return following(query)
        return answer


def _dependency(apex: bytes) -> Dependency:
    return ("file", names.to_text(apex))


class _ZoneLookup:
    """The lookup of one query in one zone."""

    def __init__(self, zone: Zone, query: Query) -> None:
        self.zone, self.query = zone, query
        self.answer: list[Record] = []
        self.flags = query.reply_flags | AA

    def run(self) -> Answer:
        name, key = self.query.name, self.query.key
        for _ in range(MAX_ALIASES + 1):
            step = self._step(name, key)
            if not isinstance(step, bytes):
                return step
            name, key = step, step.lower()
            if not names.is_within(key, self.zone.apex):
                return self._outside(name)
        return self._reply(Rcode.NOERROR)

    def _step(self, name: bytes, key: bytes) -> Reply | bytes:
        """The reply, or the target of an alias."""
        zone, rtype = self.zone, self.query.rtype
        cut = zone.cut_above(key)
        if cut is not None and not (cut == key and rtype == Type.DS):
            return self._delegation(cut)
        node = zone.nodes.get(key)
        if node is None:
            dname = zone.dname_above(key)
            if dname is not None:
                return self._dname(dname, name)
            if zone.exists(key):
                return self._negative(Rcode.NOERROR)
            node = zone.wildcard_for(key)
            if node is None:
                return self._negative(Rcode.NXDOMAIN if not self.answer else Rcode.NOERROR)
        if rtype == Type.ANY:
            self.answer += [record for rrset in node.values() for record in _renamed(rrset, name)]
            return self._positive()
        if rtype in node:
            self.answer += _renamed(node[rtype], name)
            return self._positive()
        if Type.CNAME in node:
            self.answer += _renamed(node[Type.CNAME], name)
            return node[Type.CNAME][0].rdata
        return self._negative(Rcode.NOERROR)

    def _positive(self) -> Reply:
        """The answer, the zone's NS records, and the addresses of the targets in both."""
        authority = () if self.query.rtype == Type.NS and self.query.key == self.zone.apex else self.zone.ns
        additional = self._addresses_of([*self.answer, *authority])
        return self._reply(Rcode.NOERROR, authority, additional)

    def _negative(self, rcode: int) -> Reply:
        soa = self.zone.soa[0]
        minimum = int.from_bytes(soa.rdata[-4:], "big")
        record = Record(soa.owner, soa.rtype, min(soa.ttl, minimum), soa.rdata)  # RFC 2308 §3
        return self._reply(rcode, (record,))

    def _delegation(self, cut: bytes) -> Reply:
        self.flags &= ~AA
        servers = self.zone.rrset(cut, Type.NS)
        return self._reply(Rcode.NOERROR, servers, self._addresses_of(servers))

    def _dname(self, dname: Record, name: bytes) -> Reply | bytes:
        """The DNAME record, and the CNAME record that it stands for (RFC 6672 §3.1)."""
        target = name[: len(name) - len(dname.owner)] + dname.rdata
        self.answer.append(dname)
        if len(target) > names.MAX_NAME:
            return self._reply(Rcode.YXDOMAIN)
        self.answer.append(Record(name, Type.CNAME, dname.ttl, target))
        return target

    def _addresses_of(self, records: RRset | list[Record]) -> RRset:
        out: list[Record] = []
        seen: set[bytes] = set()
        for record in records:
            at = _TARGET_AT.get(record.rtype)
            if at is None:
                continue
            target, _ = names.read_name(record.rdata, at)
            key = target.lower()
            if key not in seen and names.is_within(key, self.zone.apex):
                seen.add(key)
                for rtype in _ADDRESSES:
                    out += self.zone.rrset(key, rtype)
        return tuple(out)

    def _reply(self, rcode: int, authority: RRset = (), additional: RRset = ()) -> Reply:
        return Reply(
            rcode=rcode,
            flags=self.flags,
            answer=tuple(self.answer),
            authority=tuple(authority),
            additional=additional,
            lifetime=UNTIL_CHANGED,
        )

    def _outside(self, target: bytes) -> Answer:
        """The target of the alias is outside the zone: the server resolves it."""
        found = self.query.ask(target, self.query.rtype)

        def add(other: Reply) -> Reply:
            reply = self._reply(Rcode.NOERROR)
            return msgspec.structs.replace(reply, answer=reply.answer + other.answer)

        return then(found, add)


def _renamed(rrset: RRset, name: bytes) -> RRset:
    """The records with the query name as their owner: for wildcards, and for the spelling of the query."""
    return tuple(Record(name, record.rtype, record.ttl, record.rdata) for record in rrset)
