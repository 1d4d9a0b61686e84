"""The `kubernetes` plugin: answers the cluster's zones from the index (spec K5, K6, K11, K14, K15, K19).

The way of a question is a plain call without I/O, but for an ExternalName that leads out of the zone. Every reply names the facts
it rests on, so it lives in the answer table until one of them changes. Where the cluster has not confirmed for too long what is known,
replies say so by an extended error (RFC 8914 §4.4). Oddities of CoreDNS that clients can see are kept; each is marked in the
specification digest.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from svcdns.cluster.addresses import from_reverse, rdata_of
from svcdns.cluster.changes import Dependency, Kind
from svcdns.cluster.index import SERIAL, SYNC, Index
from svcdns.cluster.objects import NO_PORT
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.plugin_api.contract import Following, joined, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.plugins.kubernetes import apex, qname, reverse, transfer
from svcdns.plugins.kubernetes.lookup import Found, Lookup
from svcdns.plugins.kubernetes.options import Options
from svcdns.plugins.kubernetes.qname import NoSuchNameError
from svcdns.wire import names
from svcdns.wire.codes import AA, TC, ExtendedError, Rcode, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record

SCHEMA_VERSION: Final = "1.1.0"
SCHEMA_TTL: Final = 28800
MAX_CNAMES: Final = 10
_SRV: Final = struct.Struct("!HHH")
_ANSWERED_ANYWHERE: Final = frozenset({Type.SOA, Type.NS, Type.TXT, Type.PTR, Type.AXFR, Type.IXFR})
"""Types that do not follow the common rule of what exists."""
_REVERSE: Final = (names.from_text("in-addr.arpa."), names.from_text("ip6.arpa."))

_BY_NAME_ALONE: Final[tuple[Dependency, ...]] = (("kubernetes",),)
"""Stands for no fact at all: the name is enough to know the answer, and it never changes."""

_SUBTREES: Final = frozenset({("", "svc"), ("", "pod"), ("", "dns")})
"""Below a zone everything else is not there."""

Alias = tuple[Record, Answer]
"""A CNAME that leads out of the zone, and what the server answers about its target."""


class _Work(msgspec.Struct):
    """One question in one zone. `zone` is lowered, `spelled` the same as the query has it; `dependencies` collects facts."""

    query: Query
    zone: bytes
    spelled: bytes
    multicluster: bool
    dependencies: list[Dependency]

    @property
    def facts(self) -> tuple[Dependency, ...]:
        """What the reply rests on; never nothing, so that `cache` knows it for an answer about the cluster."""
        return tuple(self.dependencies) or _BY_NAME_ALONE


class _Result(msgspec.Struct):
    """What a question found: records, additional ones, and aliases whose targets are asked elsewhere."""

    answer: list[Record | Alias]
    additional: list[Record] = msgspec.field(default_factory=list)


class Kubernetes:
    """Answers the zones of one server block."""

    name = "kubernetes"

    def __init__(self, options: Options, environment: Environment) -> None:
        """The index is the environment's for the options' watch."""
        self.options = options
        self.index: Index = environment.index(options.watch)
        self._lookup = Lookup(self.index, options)
        self._local = environment.local_addresses
        self._clock, self._invalidate_all = environment.clock, environment.invalidate_all
        self.extended: int | None = None
        """The extended error of every reply."""
        self.zones = sorted((names.from_text(zone).lower() for zone in options.zones), key=len, reverse=True)
        self._multicluster = frozenset(names.from_text(zone).lower() for zone in options.multicluster)
        self._unforeseen = frozenset(zone for zone in self.zones if self._is_multicluster(zone) or zone.endswith(_REVERSE))
        self._primary = names.from_text(options.primary_zone)
        self._fallthrough = tuple(names.from_text(zone).lower() for zone in options.fallthrough)

    def ready(self) -> bool:
        """Ready once the cluster has been listed."""
        return self.index.synced

    def start(self) -> None:
        """Looks at how old the data is, before the first question."""
        self.tick()

    def tick(self) -> None:
        """Marks replies, or ends it, as the data grows old or is confirmed again; called about once a second."""
        stale = self.index.synced and self._clock() - self.index.confirmed > self.options.stale_after
        extended = ExtendedError.STALE_ANSWER if stale else None
        if extended != self.extended:
            self.extended = extended
            self._invalidate_all()

    def search_zone(self, key: bytes) -> bytes | None:
        """For `autopath`: the zone of ours that a name is in, if clients are known by their Pods."""
        return self._zone_of(key) if self.options.pods == "verified" else None

    def pod_namespace(self, address: str) -> str:
        """For `autopath`: the namespace of the Pod with that address, empty if it is none's. Rests on ("pod", address)."""
        pods = self.index.pods_at(address) if self.options.pods == "verified" else ()
        return pods[0].namespace.lower() if pods else ""

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers names of the plugin's zones; others go on."""
        zone = self._zone_of(query.key)
        if zone is None:
            return following(query)
        work = _Work(query, zone, query.name[len(query.name) - len(zone) :], self._is_multicluster(zone), [])
        if query.rtype in (Type.AXFR, Type.IXFR):
            return rcode_only(Rcode.REFUSED)
        try:
            result = self._dispatch(work)
        except NoSuchNameError:
            return self._name_error(work, following)
        if not result.answer:
            return self._negative(work, Rcode.NOERROR)
        return self._positive(work, result)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Names outside its zones are nothing to it."""
        fast_path.zones += tuple(self.zones)
        return True

    def closest_encloser(self, key: bytes, rtype: int) -> Encloser | None:
        """What encloses a name that is not there, because its namespace or its Service is not (spec K6); None where there is more to it."""
        zone = self._zone_of(key)
        if zone is None or rtype in _ANSWERED_ANYWHERE or zone in self._unforeseen or not self.index.synced:
            return None
        labels = names.labels_of(key[: len(key) - len(zone)] + b"\0")
        if not labels or labels[-1] in (b"pod", b"dns"):
            return None
        if labels[-1] != b"svc":
            found = Encloser(zone, "", _SUBTREES, apex.NS_LABELS, (SERIAL,))
        else:
            if len(labels) < 3:
                return None
            subtree, namespace = b"\3svc" + zone, labels[-2].decode("latin-1")
            if not self.index.has_namespace(namespace):
                found = Encloser(subtree, "", self.index.names(Kind.NAMESPACE), apex.NS_LABELS, (SERIAL,))
            else:
                within = bytes((len(labels[-2]),)) + labels[-2] + subtree
                found = Encloser(within, namespace, self.index.names(Kind.SERVICE), apex.NS_LABELS, (SERIAL, ("namespace", namespace)))
        return None if self._is_divided(found.key) else found

    def _is_divided(self, key: bytes) -> bool:
        """Whether a zone of ours, or one that falls through, begins below the name, or the name itself falls through."""
        return self._falls_through(key) or any(names.is_within(zone, key) and zone != key for zone in (*self.zones, *self._fallthrough))

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """The zone for `transfer`; see `chain.zones`."""
        if self._zone_of(zone) is None:
            return None
        return transfer.offer(self.index, self.options, self._local, zone, serial, multicluster=self._is_multicluster(zone))

    def _is_multicluster(self, zone: bytes) -> bool:
        return any(names.is_within(zone, other) for other in self._multicluster)

    def _zone_of(self, key: bytes) -> bytes | None:
        for zone in self.zones:
            if key.endswith(zone) and names.is_within(key, zone):
                return zone
        return None

    # -- replies

    def _positive(self, work: _Work, result: _Result) -> Answer:
        aliases = [part[1] for part in result.answer if isinstance(part, tuple)]
        if not aliases:
            return Reply(
                flags=work.query.reply_flags | AA,
                answer=tuple(result.answer),  # type: ignore[arg-type]
                additional=tuple(result.additional),
                lifetime=UNTIL_CHANGED,
                dependencies=work.facts,
                extended=self.extended,
            )
        if all(isinstance(answer, Reply) for answer in aliases):
            return self._with_targets(work, result, aliases)  # type: ignore[arg-type]
        return self._with_awaited_targets(work, result, aliases)

    async def _with_awaited_targets(self, work: _Work, result: _Result, aliases: list[Answer]) -> Reply:
        replies = [answer if isinstance(answer, Reply) else await answer for answer in aliases]
        return self._with_targets(work, result, replies)

    def _with_targets(self, work: _Work, result: _Result, replies: list[Reply]) -> Reply:
        """The reply with the answers of other zones put behind the CNAMEs that lead there."""
        flags = work.query.reply_flags | AA
        records: list[Record] = []
        remaining = iter(replies)
        for part in result.answer:
            if isinstance(part, Record):
                records.append(part)
                continue
            target = next(remaining)
            if not target.dropped:
                records.append(part[0])
                records += target.answer
                flags |= target.flags & TC
        if not records:
            reply = self._negative(work, Rcode.NOERROR)
        else:
            dependencies = work.facts
            reply = Reply(flags=flags, answer=tuple(records), lifetime=UNTIL_CHANGED, dependencies=dependencies, extended=self.extended)
        for target in replies:
            reply = joined(reply, target)
        return reply

    def _name_error(self, work: _Work, following: Following) -> Answer:
        if self._falls_through(work.query.key):
            dependencies = work.facts
            return then(following(work.query), lambda reply: joined(reply, Reply(lifetime=UNTIL_CHANGED, dependencies=dependencies)))
        if not self.index.synced:
            work.dependencies.append(SYNC)
            return self._negative(work, Rcode.SERVFAIL)
        return self._negative(work, Rcode.NXDOMAIN)

    def _falls_through(self, key: bytes) -> bool:
        return any(names.is_within(key, zone) for zone in self._fallthrough)

    def _negative(self, work: _Work, rcode: int) -> Reply:
        return Reply(
            rcode=rcode,
            flags=work.query.reply_flags | AA,
            authority=(self._soa(work),),
            lifetime=UNTIL_CHANGED,
            dependencies=work.facts,
            extended=self.extended,
        )

    def _soa(self, work: _Work) -> Record:
        serials = self.index.serials
        return apex.soa(work.spelled, self.options.ttl, serials.multicluster if work.multicluster else serials.ordinary)

    # -- dispatch by type

    def _dispatch(self, work: _Work) -> _Result:
        query = work.query
        rtype = query.rtype
        if rtype in (Type.A, Type.AAAA):
            return _Result(self._addresses(work, query.name, query.key, rtype, ()))
        if rtype == Type.SRV:
            return self._srv(work)
        if rtype == Type.PTR:
            return self._ptr(work)
        if rtype == Type.SOA:
            if query.key == work.zone:
                work.dependencies.append(SERIAL)
                return _Result([self._soa(work)])
            return _Result([])
        if rtype == Type.CNAME:
            return self._cname(work)
        if rtype == Type.TXT:
            return self._txt(work)
        if rtype == Type.NS and query.key == work.zone and work.spelled == work.zone:
            return self._ns(work)
        self._find(work, query.key)
        return _Result([])

    def _find(self, work: _Work, key: bytes) -> Found:
        """What a name below the zone stands for, `ns.dns` included. Raises NoSuchNameError."""
        below = key[: len(key) - len(work.zone)]
        if apex.is_server_name(key, work.spelled):
            pod_names = self.options.endpoint_pod_names
            found = apex.servers(self.index, self._local, work.dependencies, pod_names=pod_names)
            return Found([entry for entry, _ in found], "")
        return self._find_plain(work, below + b"\0")

    def _find_plain(self, work: _Work, below: bytes) -> Found:
        labels = [names.label_text(label) for label in names.labels_of(below)]
        name = qname.parse(labels, multicluster=work.multicluster, zonal=self.options.zonal)
        if name.subtree and work.zone.endswith(_REVERSE):
            raise NoSuchNameError
        return self._lookup.find(name, work.dependencies, multicluster=work.multicluster)

    def _addresses(self, work: _Work, name: bytes, key: bytes, rtype: int, chain: tuple[bytes, ...]) -> list[Record | Alias]:
        """Address records of a name, with the CNAMEs that lead to them. `chain` has the targets of the CNAMEs before.

        Raises NoSuchNameError.
        """
        ttl = self.options.ttl
        out: list[Record | Alias] = []
        seen: set[str] = set()
        for host, _, _ in self._find(work, key).entries:
            packed = rdata_of(host)
            if packed is None:
                out += self._alias(work, name, key, host, rtype, chain)
            elif packed[0] == rtype and host not in seen:
                seen.add(host)
                out.append(Record(name, rtype, ttl, packed[1]))
        return out

    def _alias(self, work: _Work, name: bytes, key: bytes, host: str, rtype: int, chain: tuple[bytes, ...]) -> list[Record | Alias]:
        """A CNAME and what it leads to (spec K11); nothing where it loops or ends in nothing inside the zone."""
        try:
            target = names.from_text(host)
        except NameTextError:
            return []
        lowered = target.lower()
        if names.is_within(lowered, key) or len(chain) > MAX_CNAMES or target in chain:
            return []
        cname = Record(name, Type.CNAME, self.options.ttl, target)
        if not names.is_within(lowered, work.zone):
            return [(cname, work.query.ask(target, rtype))]
        try:
            rest = self._addresses(work, target, lowered, rtype, (*chain, target))
        except NoSuchNameError:
            return []
        return [cname, *rest] if rest else []

    def _cname(self, work: _Work) -> _Result:
        entries = self._find(work, work.query.key).entries
        if not entries or rdata_of(entries[0][0]) is not None:
            return _Result([])
        try:
            return _Result([Record(work.query.name, Type.CNAME, self.options.ttl, names.from_text(entries[0][0]))])
        except NameTextError:
            return _Result([])

    def _txt(self, work: _Work) -> _Result:
        """`dns-version`, else NODATA for names that hold records and a name error for all others, even those that exist."""
        query = work.query
        if query.key == b"\x0bdns-version" + work.zone:
            text = SCHEMA_VERSION.encode()
            return _Result([Record(query.name, Type.TXT, SCHEMA_TTL, bytes((len(text),)) + text)])
        below = query.key[: len(query.key) - len(work.zone)] + b"\0"
        found = self._find_plain(work, below)
        if not found.entries and not (self.options.zonal and len(names.labels_of(below)) > 5):
            raise NoSuchNameError
        return _Result([])

    def _srv(self, work: _Work) -> _Result:
        """SRV records of every matching port, and the addresses of their targets (spec K10)."""
        found = self._find(work, work.query.key)
        entries = [(entry, packed) for entry in found.entries if (packed := rdata_of(entry[0])) is not None]
        if not entries:
            return _Result([])
        total = 100 * len(entries)
        weight = max(1, int(100.0 / total * 100))
        result = _Result([], [])
        targets: dict[tuple[bytes, int], None] = {}
        addresses: dict[tuple[bytes, str], None] = {}
        ttl = self.options.ttl
        for (host, port, label), (rtype, rdata) in entries:
            if port == NO_PORT:
                continue
            target = self._target(found, label, work)
            if target is None:
                continue
            if (target, port) not in targets:
                targets[target, port] = None
                result.answer.append(Record(work.query.name, Type.SRV, ttl, _SRV.pack(0, weight, port) + target))
            if (target, host) not in addresses:
                addresses[target, host] = None
                result.additional.append(Record(target, rtype, ttl, rdata))
        return result

    def _target(self, found: Found, label: str, work: _Work) -> bytes | None:
        if not found.base:
            return None
        try:
            return apex.name_below(found.base, label, work.spelled)
        except NameTextError:
            return None

    def _ns(self, work: _Work) -> _Result:
        result = _Result([], [])
        seen: set[bytes] = set()
        pod_names = self.options.endpoint_pod_names
        for (host, _, label), base in apex.servers(self.index, self._local, work.dependencies, pod_names=pod_names):
            packed = rdata_of(host)
            if packed is None:
                continue
            server = apex.name_below(base, label, work.spelled)
            result.additional.append(Record(server, packed[0], self.options.ttl, packed[1]))
            if server not in seen:
                seen.add(server)
                result.answer.append(Record(work.query.name, Type.NS, self.options.ttl, server))
        return result

    def _ptr(self, work: _Work) -> _Result:
        key = work.query.key
        address = from_reverse(key) if key.endswith(_REVERSE) else ""
        if not address:
            below = key[: len(key) - len(work.zone)]
            self._find_plain(work, below + b"\0")
            return _Result([])
        found = reverse.targets(address, self.index, self._lookup, self.options, work.dependencies)
        if not found:
            raise NoSuchNameError
        records: list[Record | Alias] = []
        for base in found:
            try:
                target = names.from_text(base)[:-1] + self._primary
            except NameTextError:
                continue
            records.append(Record(work.query.name, Type.PTR, self.options.ttl, target))
        return _Result(records)
