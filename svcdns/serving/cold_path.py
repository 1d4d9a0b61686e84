"""Answers queries on the cold path: from octets to octets, without the plugin chain (`plugin_api.cold_path`).

Rules:

1. A query takes the cold path if its reply is not stored, and if its packet has the usual form: class IN, no flags but
   RD, AD and CD, and no record but an OPT record without options.
2. The name must be in a zone whose plugins have all joined the cold path.
3. If a reply exceeds the client's limit, the chain makes it.
4. Replies are stored in the answer table by the same rules as those of the chain.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from svcdns.chain.routing import Listener, Route
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.cold_path import ADDRESS_TYPES, AnswerCache, AnswerSource, ColdPath
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Increment
from svcdns.serving.answer_table import NEGATIVE_LIFETIME, AnswerTable, Entry
from svcdns.serving.metrics import HitCounter, QueryMetrics
from svcdns.serving.rotations import random, variants
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, QR, RD, TC, Class, Rcode, Type
from svcdns.wire.message import ADDRESS_SIZES, MAX_MESSAGE, MIN_UDP, Writer, encode_reply, rotated
from svcdns.wire.record import Edns, Record
from svcdns.wire.request import Request

MAX_COUNTERS: Final = 4096
"""The most pairs of hit counters that are kept for one zone and query type."""
MAX_OPTS: Final = 64
"""The most spellings of an OPT record that are remembered."""
_OPT_SIZE: Final = 11
_OPT_ENDS: Final = {b"\0\0\0\0\0\0": False, b"\0\0\x80\0\0\0": True}
"""The last six octets of an OPT record of version 0 without options. The values: whether DO is set."""
_HEADER: Final = struct.Struct("!HHHHH")
_LABEL_END: Final = 1 + names.MAX_LABEL
_QUESTION_SIZE: Final = names.MAX_NAME + 4
_TRUNCATED: Final = TC >> 8
_NO_CLIENT: Final = Client("", 0, "", 0, "udp")
_POSITIVE, _NODATA, _NXDOMAIN = range(3)
_IN: Final = int(Class.IN)


def _ask(_query: Query) -> Answer:
    """Raises NotImplementedError: a query of OTHER_TYPES needs no other query."""
    raise NotImplementedError


class _Header:
    """The parts of replies that depend on octets 2 to 11 of the query."""

    __slots__ = ("checking_disabled", "extra", "nodata", "nxdomain", "opt_size", "positive")

    def __init__(self, flags: int, extra: int) -> None:
        """`flags` has the flags of the query. `extra` is 1 if the query has an OPT record."""
        self.checking_disabled, self.extra = bool(flags & CD), bool(extra)
        self.opt_size = _OPT_SIZE * extra
        pack, flags = _HEADER.pack, QR | AA | flags & (RD | CD)
        self.positive = pack(flags, 1, 1, 0, extra)
        """The header of a reply with one record, without the message id."""
        self.nodata = pack(flags, 1, 0, 1, extra)
        self.nxdomain = pack(flags | Rcode.NXDOMAIN, 1, 0, 1, extra)


_HEADERS: Final = {
    flags.to_bytes(2, "big") + b"\0\1\0\0\0\0" + bytes((0, extra)): _Header(flags, extra)
    for flags in [first | second for first in (0, RD) for second in (0, AD, CD, AD | CD)]
    for extra in (0, 1)
}


class _Zone:
    """A zone of the cold path on one listener."""

    def __init__(
        self, zone: bytes, route: Route, cold_path: ColdPath, source: AnswerSource, server: str, *, udp: bool
    ) -> None:
        self.zone, self.route, self.source, self.shuffles = zone, route, source, cold_path.shuffles
        self.passes, self.largest = cold_path.passes, cold_path.largest if udp else MAX_MESSAGE
        rules = cold_path.cache
        self.rules = rules
        self.cache: AnswerCache | None = rules if rules is not None and rules.stores(zone) else None
        soa_ttl = source.soa(zone).ttl
        self.ttl = cold_path.ttl if rules is None else rules.ttl(cold_path.ttl, denial=False)
        self.soa_ttl = soa_ttl if rules is None else rules.ttl(soa_ttl, denial=True)
        self.first: tuple[Increment, ...] = () if rules is None else rules.miss_increments(server)
        """What a reply of the cold path adds to the metrics of *cache*."""
        self.further: tuple[tuple[Increment, ...], ...] = ((), ())
        """What a stored reply adds to the metrics of *cache*: a positive one, and a negative one."""
        if rules is not None:
            self.further = tuple(rules.hit_increments(server, zone, denial=denial) for denial in (False, True))
        size = route.udp_size.to_bytes(2, "big")
        self.opt = (b"\0\0\x29" + size + bytes(6), b"\0\0\x29" + size + b"\0\0\x80\0\0\0")
        """The OPT records of replies, without and with the DO bit."""
        self._soa: dict[int, bytes] = {}
        self._serial = 0

    def passed(self, name: bytes, rtype: int) -> tuple[Dependency, ...] | None:
        """Returns the data on which the plugins before the source depend for a query that they pass on.

        Returns None if one of these plugins may answer the query itself.
        """
        found: tuple[Dependency, ...] = ()
        for passes in self.passes:
            more = passes(name, rtype)
            if more is None:
                return None
            found += more
        return found

    def soa(self, question: bytes, zone_at: int) -> bytes:
        """Returns the encoded SOA record of a reply. The zone begins at offset `zone_at` of the query name."""
        serial = self.source.serial()
        if serial != self._serial:
            self._serial = serial
            self._soa.clear()
        found = self._soa.get(zone_at)
        if found is None:
            soa = self.source.soa(question[zone_at:-4])
            found = Writer(question).record(Record(soa.owner, soa.rtype, self.soa_ttl, soa.rdata))
            self._soa[zone_at] = found
        return found


class _Kind:
    """The queries of one type in one zone."""

    __slots__ = ("addresses", "counters", "head", "rtype", "service", "size", "tail_size", "zone")

    def __init__(self, zone: _Zone, rtype: int) -> None:
        self.zone, self.rtype, self.service, self.addresses = zone, rtype, zone.source.service, rtype in ADDRESS_TYPES
        octets = ADDRESS_SIZES.get(rtype, 0)
        fixed = (rtype << 16 | _IN).to_bytes(4, "big") + zone.ttl.to_bytes(4, "big") + octets.to_bytes(2, "big")
        self.head = b"\xc0\x0c" + fixed
        """An address record at the query name, without its RDATA."""
        self.size = len(self.head) + octets
        self.tail_size = len(zone.zone) + 4
        self.counters: dict[int, tuple[HitCounter, HitCounter]] = {}
        """The counter of the cold path's replies and the counter of a stored reply.

        The key has all properties of a reply that decide which metrics it adds to.
        """


class ColdAnswers:
    """Answers packets on the cold path, for one listener, protocol and address family."""

    def __init__(
        self,
        listener: Listener,
        table: AnswerTable,
        metrics: QueryMetrics,
        lookup_negative: Callable[[bytes], bytes],
        *,
        udp: bool,
    ) -> None:
        """Finds the zones of the listener that have a cold path.

        `lookup_negative` returns a shared negative answer to a packet, or empty octets.
        """
        self._lookup_negative = lookup_negative
        self._listener, self._table, self._metrics = listener, table, metrics
        self._udp, self._limit = udp, MIN_UDP if udp else MAX_MESSAGE
        self._opts: dict[bytes, tuple[int, bool]] = {}
        """The largest reply in octets, and the DO bit, by the octets of an OPT record."""
        self._zones: tuple[bytes, ...] = ()
        self._kinds: list[tuple[bytes, dict[bytes, _Kind]]] = []
        self._services: dict[bytes, _Kind] = {}
        """By the octets after the label of the namespace in the question of a Service, in lower case."""
        for route in listener.routes.values():
            cold_path = route.cold_path
            if cold_path is not None and cold_path.source is not None and route.labels is None:
                for zone in cold_path.zones:
                    if listener.find(zone, Type.A) is route and not listener.is_divided(zone):
                        self._add(_Zone(zone, route, cold_path, cold_path.source, listener.server, udp=udp))

    def _add(self, zone: _Zone) -> None:
        kinds = {(rtype << 16 | _IN).to_bytes(4, "big"): _Kind(zone, rtype) for rtype in zone.source.types(zone.zone)}
        self._kinds.append((zone.zone, kinds))
        self._zones += (zone.zone,)
        self._services |= {b"\3svc" + zone.zone + octets: kind for octets, kind in kinds.items() if kind.addresses}

    def __bool__(self) -> bool:
        """Returns True if a zone of the listener has a cold path."""
        return bool(self._kinds)

    def answer(self, key: bytes) -> bytes | None:
        """Returns the reply to a packet. Returns empty octets if the chain must answer it.

        `key` is the packet without its message id; the reply has none either. Returns None for a packet of an unusual
        form, for a name outside of the cold path's zones, and for a name that only the chain answers. Such a packet may
        have a shared negative answer. Call it only if the answer table has no entry for the key.
        """
        header = _HEADERS.get(key[:10])
        if header is None:
            return None
        if header.extra:
            opt = key[-_OPT_SIZE:]
            found_opt = self._opts.get(opt) or self._read_opt(opt)
            if found_opt is None:
                return None
            (limit, dnssec_ok), question = found_opt, key[10:-_OPT_SIZE]
        else:
            limit, dnssec_ok, question = self._limit, False, key[10:]
        name = question.lower()
        try:
            at = name[0] + 1
            end = at + name[at] + 1
        except IndexError:
            return None
        kind = self._services.get(name[end:])
        if kind is not None:
            if not (1 < at <= _LABEL_END and at + 1 < end <= at + _LABEL_END and len(name) <= _QUESTION_SIZE):
                return None
            zone_at = end + 4
            found = kind.service(name, at, end, kind.rtype)
        else:
            kind = self._kind_of(name, question[-4:]) if name.endswith(self._zones, 0, -4) else None
            if kind is None:
                return None
            zone_at = len(name) - kind.tail_size
            starts = _label_starts(name, zone_at)
            if starts is None:
                return None
            if not kind.addresses:
                edns = Edns(min(limit, kind.zone.largest), dnssec_ok) if header.extra else None
                return self._lookup_negative(key) or self._other_reply(key, header, question, name, kind, edns)
            found = kind.zone.source.name(name, starts, zone_at, kind.rtype)
        if found is None:
            return None
        zone = kind.zone
        more = zone.passed(name[:-4], kind.rtype) if zone.passes else ()
        if more is None:
            return b""
        if type(found) is int and found:
            table = self._table
            shared = table.negative.find_below(key, name, found)
            if shared is not None and not table.seen_before(key):
                hit_counter = shared.hit_counter
                if hit_counter.hits == hit_counter.flushed:
                    table.dirty.append(hit_counter)
                hit_counter.hits += 1
                return shared.head + question + shared.tail
        if limit > zone.largest:  # noqa: PLR1730 - a call of min() costs more
            limit = zone.largest
        return self._reply(key, header, question, name, zone_at, kind, found, limit, dnssec_ok, more)

    def _reply(
        self,
        key: bytes,
        header: _Header,
        question: bytes,
        name: bytes,
        zone_at: int,
        kind: _Kind,
        found: list[bytes] | int,
        limit: int,
        dnssec_ok: bool,
        more: tuple[Dependency, ...],
    ) -> bytes:
        """Encodes, counts and stores a reply. Returns empty octets if the chain must answer the query.

        `more` has the dependencies of the reply other than those of the source.
        """
        table, zone, count = self._table, kind.zone, 0
        opt = zone.opt[dnssec_ok] if header.extra else b""
        if isinstance(found, int):
            case, wire = _NXDOMAIN, header.nxdomain + question + zone.soa(question, zone_at) + opt
        elif not found:
            case, wire = _NODATA, header.nodata + question + zone.soa(question, zone_at) + opt
        elif len(found) == 1:
            case, wire = _POSITIVE, header.positive + question + kind.head + found[0] + opt
        else:
            case, count, head = _POSITIVE, len(found), kind.head
            counts = count.to_bytes(2, "big") + header.positive[6:]
            wire = b"".join((header.positive[:4], counts, question, *[head + one for one in found], opt))
        if len(wire) + 2 > limit:
            return b""
        if zone.cache is not None:
            cache_key = (name[:-4], kind.rtype, _IN, dnssec_ok, header.checking_disabled)
            ttl = zone.soa_ttl if case else zone.ttl
            if not zone.cache.admits(cache_key, question[:-4], ttl, denial=case > 0):
                return b""
        if count and zone.shuffles:
            wire = _shuffled(wire, 10 + len(question), kind.size, count)
        hit_counter = self._count(kind, len(key), len(wire), case, dnssec_ok)
        if table.seen_before(key):
            wires: tuple[bytes, ...] = (wire,)
            if count and zone.shuffles:
                orders = variants(b"\0\0" + wire, count)
                wires = tuple(rotated(wire, 10 + len(question), kind.size, count, orders))
            ends = table.deadline(NEGATIVE_LIFETIME) if case else UNTIL_CHANGED
            table.put(Entry.of(key, wires, ends, zone.source.dependencies() + more, hit_counter))
        elif case == _NXDOMAIN:
            self._note_negative(key, wire, name[:-4], kind, hit_counter)
        return wire

    def _other_reply(
        self, key: bytes, header: _Header, question: bytes, name: bytes, kind: _Kind, edns: Edns | None
    ) -> bytes:
        """Answers a query that is not for addresses, with the plugin's Reply object.

        The size in `edns` is the client's limit.
        """
        zone, flags = kind.zone, int.from_bytes(key[:2], "big")
        more = zone.passed(name[:-4], kind.rtype)
        if more is None:
            return b""
        query = Query(question[:-4], name[:-4], kind.rtype, _IN, flags, edns, _NO_CLIENT, _ask, zone=zone.route.zone)
        reply = zone.source.reply(query)
        if reply is None or reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            return b""
        if zone.shuffles and len(reply.additional) > 1:
            return b""
        case = _NXDOMAIN if reply.rcode else _POSITIVE if reply.answer else _NODATA
        ttl = min([record.ttl for record in (*reply.answer, *reply.authority, *reply.additional)])
        if zone.rules is not None:
            lifetime = zone.rules.ttl(ttl, denial=case > 0)
            reply = reply.with_ttls(lambda _: lifetime)
        request = Request(0, flags, question[:-4], kind.rtype, _IN, question, edns)
        limit = self._limit if edns is None else edns.size
        wire = encode_reply(request, reply, limit, size=zone.route.udp_size)[2:]
        if wire[0] & _TRUNCATED:
            return b""
        dnssec_ok = edns is not None and edns.dnssec_ok
        if zone.cache is not None:
            cache_key = (name[:-4], kind.rtype, _IN, dnssec_ok, header.checking_disabled)
            if not zone.cache.admits(cache_key, question[:-4], lifetime, denial=case > 0):
                return b""
        table, hit_counter = self._table, self._count(kind, len(key), len(wire), case, dnssec_ok)
        if table.seen_before(key):
            ends = table.deadline(NEGATIVE_LIFETIME) if case else UNTIL_CHANGED
            table.put(Entry.of(key, (wire,), ends, reply.dependencies + more, hit_counter))
        elif case == _NXDOMAIN:
            self._note_negative(key, wire, name[:-4], kind, hit_counter)
        return wire

    def _count(self, kind: _Kind, request: int, response: int, case: int, dnssec_ok: bool) -> HitCounter:
        """Counts a reply. Returns the counter for an answer-table entry with this reply.

        `request` and `response` are the lengths of the messages without their ids.
        """
        properties = (request << 16 | response) << 3 | case << 1 | dnssec_ok
        counters = kind.counters.get(properties)
        if counters is None:
            counters = self._new_counters(kind, properties, request, response, case, dnssec_ok=dnssec_ok)
        first, further = counters
        if first.hits == first.flushed:
            self._metrics.dirty_cold.append(first)
        first.hits += 1
        return further

    def _kind_of(self, name: bytes, type_and_class: bytes) -> _Kind | None:
        for zone, kinds in self._kinds:
            if name.endswith(zone, 0, -4):
                return kinds.get(type_and_class)
        return None

    def _read_opt(self, opt: bytes) -> tuple[int, bool] | None:
        """Returns the values of an OPT record, or None if it has an unusual form. Remembers the result."""
        dnssec_ok = _OPT_ENDS.get(opt[5:])
        if opt[:3] != b"\0\0\x29" or dnssec_ok is None:
            return None
        if len(self._opts) >= MAX_OPTS:
            self._opts.clear()
        limit = max(MIN_UDP, int.from_bytes(opt[3:5], "big")) if self._udp else MAX_MESSAGE
        found = self._opts[opt] = (limit, dnssec_ok)
        return found

    def _new_counters(
        self, kind: _Kind, properties: int, request: int, response: int, case: int, *, dnssec_ok: bool
    ) -> tuple[HitCounter, HitCounter]:
        """Makes the counters of replies. `request` and `response` are the lengths of the messages without their ids."""
        zone, metrics, route = kind.zone, self._metrics, kind.zone.route
        own: tuple[Increment, ...] = ()
        if route.counted:
            rcode = Rcode.NXDOMAIN if case == _NXDOMAIN else Rcode.NOERROR
            own = metrics.increments_of(route, kind.rtype, rcode, route.writer, dnssec_ok=dnssec_ok)
            own += metrics.sizes(route, request + 2, response + 2)
        if len(kind.counters) >= MAX_COUNTERS:
            kind.counters.clear()
        further = metrics.hit_counter(own + zone.further[case > 0], route)
        made = kind.counters[properties] = (HitCounter(own + zone.first, metrics.origin(route)), further)
        return made

    def _note_negative(self, key: bytes, wire: bytes, name: bytes, kind: _Kind, hit_counter: HitCounter) -> None:
        """Stores a name error for other names below the closest encloser, as `PendingReply` does."""
        find = kind.zone.route.closest_encloser
        encloser = find(name, kind.rtype) if find is not None else None
        if encloser is not None and not self._listener.is_divided(encloser.key):
            self._table.negative.note(b"\0\0" + key, b"\0\0" + wire, encloser, hit_counter)


def _label_starts(name: bytes, end: int) -> list[int] | None:
    """Returns the offset of each label before the label at `end`, or None if the name is malformed."""
    at, starts = 0, []
    while at < end:
        length = name[at]
        if not 0 < length <= names.MAX_LABEL:
            return None
        starts.append(at)
        at += 1 + length
    return starts if at == end and len(name) <= _QUESTION_SIZE else None


def _shuffled(wire: bytes, at: int, size: int, count: int) -> bytes:
    """Returns a reply with its `count` records of `size` octets at offset `at` in random order."""
    draw, end = random.random, at + size * count
    records = sorted([wire[one : one + size] for one in range(at, end, size)], key=lambda _: draw())
    return wire[:at] + b"".join(records) + wire[end:]
