"""The fast path: forwards simple queries to an upstream without the plugin chain (`plugin_api.fast_path`).

Only UDP queries of class IN for addresses of a name take it, with RD set and without EDNS options. All other queries go
through the plugin chain. If the upstream's reply has more than addresses or a denial, the query also goes through the
chain. Both ways give the same replies and the same metrics. A simple reply that the plugin *cache* has is sent without
an upstream (`cached_replies`).
"""

from __future__ import annotations

import random
from bisect import bisect_left
from time import perf_counter
from typing import Any, Final, Protocol

import msgspec

from svcdns.chain.routing import Route
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.fast_path import FastPath, Key, UpstreamReply
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import Increment, Reply, rcode_only
from svcdns.serving.cached_replies import cached_reply
from svcdns.serving.metrics import DURATIONS, HitCounter, Origin
from svcdns.serving.responder import Responder
from svcdns.wire.codes import AD, QR, RD, Class, Rcode, Type
from svcdns.wire.message import MIN_UDP, udp_limit
from svcdns.wire.names import MAX_LABEL, MAX_NAME
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import SimpleReply, with_ttl

MAX_COUNTERS: Final = 4096
"""The most hit counters that a responder keeps for replies of the fast path."""
_HEADERS: Final = {
    flags.to_bytes(2, "big") + b"\0\1\0\0\0\0" + bytes((0, extra)): (bool(flags & AD), bool(extra))
    for flags in (RD, RD | AD)
    for extra in (0, 1)
}
"""Octets 2 to 11 of packets that may take the fast path. The values: whether AD is set, and whether there is an OPT."""
_IN: Final = int(Class.IN)
_OPT: Final = b"\0\0\x29"
_TYPES: Final = {b"\0\1\0\1": int(Type.A), b"\0\x1c\0\1": int(Type.AAAA)}
_OPT_SIZE: Final = 11
_OPT_SIZE_AT: Final = 3
"""The offset of the UDP payload size in an OPT record."""
_OPT_TAILS: Final = {b"\0\0\0\0\0\0": False, b"\0\0\x80\0\0\0": True}
"""The last six octets of an OPT record of version 0 without options. The values: whether DO is set."""
_PASSED_FIRST: Final = 0x05
"""Mask for the first octet of flags: a client gets AA and RD as the upstream set them."""
_PASSED_SECOND: Final = 0x9F
"""Mask for the second octet of flags: a client gets RA, CD and the response code as the upstream set them."""
_AD: Final = 0x20


def try_fast_path(packet: bytes, responder: Responder, started: float) -> FastPathExchange | FinishedReply | None:
    """Returns a new exchange for a packet, or the reply from the cache.

    Returns None if the packet must go through the plugin chain.

    Call it only for a responder that gives all clients the same replies, after a miss in its answer table. `started` is
    the time on `perf_counter` when the packet was read from its socket.
    """
    header = _HEADERS.get(packet[2:12])
    if header is None:
        return None
    authentic, extra = header
    end = len(packet) - _OPT_SIZE if extra else len(packet)
    rtype, name = _TYPES.get(packet[end - 4 : end]), packet[12 : end - 4].lower()
    if rtype is None or name.endswith(responder.listener.inner) or not _is_name(packet, 12, end - 5):
        return None
    route = responder.only_route or responder.listener.find(name, rtype)
    if route is None or route.fast_path is None:
        return None
    fast_path, edns, dnssec_ok = route.fast_path, None, False
    if extra:
        tail = packet[end:]
        if tail[:3] != _OPT or tail[5:] not in _OPT_TAILS:
            return None
        dnssec_ok = _OPT_TAILS[tail[5:]]
        edns = Edns(min(int.from_bytes(tail[3:5], "big"), fast_path.largest), dnssec_ok)
    key = (name, rtype, _IN, dnssec_ok, False)
    dependencies: tuple[Dependency, ...] = ()
    try:
        if fast_path.is_shut:
            return None
        known = fast_path.knows(key)
        for passes in fast_path.passes:
            found = passes(name, rtype)
            if found is None:
                return None
            dependencies += found
        if known:
            reply = fast_path.cached(key, responder.listener.server)
            if reply is None:
                if fast_path.knows(key):
                    return None
            elif dependencies or route.observers or route.taps or route.observes_packets:
                return None
            else:
                wire = cached_reply(
                    packet, key, edns, end, responder, route, reply, started, authentic=authentic or dnssec_ok
                )
                return FinishedReply(wire) if wire else None
    except Exception as error:  # noqa: BLE001 - a plugin's hook
        responder.recover("the fast path", error)
        return None
    cached = fast_path.keep is not None
    exchange = FastPathExchange(
        responder,
        route,
        fast_path,
        packet,
        key,
        RD | AD if authentic or cached else RD,
        edns,
        end,
        started,
        authentic or dnssec_ok or not cached,
        responder.fast_path_counters,
    )
    if dependencies:
        exchange.depend_on(dependencies)
    return exchange


def _is_name(packet: bytes, at: int, last: int) -> bool:
    """Returns True if the octets from `at` to `last` are exactly one name of two or more labels.

    `last` is the offset of the root label.
    """
    if last - at >= MAX_NAME or packet[last]:
        return False
    second = at + 1 + packet[at]
    while at < last:
        length = packet[at]
        if not 0 < length <= MAX_LABEL:
            return False
        at += 1 + length
    return at == last > second


Sender = Any
"""The sender of a datagram. Only the reader of the socket interprets this value."""


class Reader(Protocol):
    """The methods of a UDP socket's reader that the fast path (forwarding without the plugin chain) calls."""

    def client(self, sender: Sender) -> Client:
        """Returns the client that sent a datagram."""
        ...

    def host(self, sender: Sender) -> str:
        """Returns the address of the client, as text."""
        ...

    def queue_reply(self, sender: Sender, wire: bytes) -> None:
        """Queues a reply, which is sent together with other replies."""
        ...


class FinishedReply(msgspec.Struct, eq=False):
    """The reply to a query on the fast path that no upstream is needed for."""

    _wire: bytes

    def send(self, reader: Reader, sender: Sender) -> None:
        """Sends the reply to `sender`."""
        reader.queue_reply(sender, self._wire)


class FastPathExchange(msgspec.Struct, eq=False):
    """One query on the fast path (forwarding without the plugin chain), until its reply is sent.

    If the reply is not simple, the query is passed to the plugin chain. `_end` is the offset after the question
    section. `flags` has the header bits RD and AD for the upstream. With a cache, AD is always set, for later clients.
    If `_authentic` is true, the client may get the AD bit. `_counters` are those of the responder when the
    query arrived: after a reload, the responder has another dictionary.
    """

    _responder: Responder
    _route: Route
    _fast_path: FastPath
    _packet: bytes
    key: Key
    flags: int
    edns: Edns | None
    _end: int
    _started: float
    _authentic: bool
    _counters: dict[tuple[object, ...], HitCounter]
    client: str = ""
    _reader: Reader | None = None
    _sender: Sender = None
    _dependencies: tuple[Dependency, ...] = ()
    _changes: int = 0

    @property
    def wire(self) -> bytes:
        """Returns the query for an upstream, without its message id."""
        packet, edns, flags = self._packet, self.edns, self.flags.to_bytes(2, "big")
        if edns is None or edns.size < self._fast_path.largest:
            return flags + packet[4:]
        at = self._end + _OPT_SIZE_AT
        return flags + packet[4:at] + edns.size.to_bytes(2, "big") + packet[at + 2 :]

    @property
    def packet(self) -> bytes:
        """Returns the packet of the client."""
        return self._packet

    @property
    def requestor(self) -> Client:
        """Returns the client."""
        assert self._reader is not None
        return self._reader.client(self._sender)

    @property
    def server(self) -> str:
        """Returns the server label of the listener in metrics."""
        return self._responder.listener.server

    @property
    def zone(self) -> bytes:
        """Returns the server block's zone that contains the name, in lower case."""
        return self._route.zone

    def note_arrival(self) -> None:
        """Passes the query to the taps of the block."""
        client = self.requestor
        for tap in self._route.taps:
            tap.arrived(self._packet, client, self._started, None)

    def depend_on(self, dependencies: tuple[Dependency, ...]) -> None:
        """Sets the dependencies of the reply. Call it before the query is sent."""
        self._dependencies, self._changes = dependencies, self._fast_path.changes()

    def send(self, reader: Reader, sender: Sender) -> None:
        """Sends the query to an upstream. `reader` will send the reply to `sender`."""
        self._reader, self._sender, self.client = reader, sender, reader.host(sender)
        self._responder.in_flight.add(self)
        assert self._fast_path.ask is not None
        try:
            refused = self._fast_path.ask(self)
        except Exception as error:  # noqa: BLE001 - a plugin's hook
            refused = self._failed(error)
        if refused is not None:
            self._responder.in_flight.discard(self)
            self._answer_through_chain(refused)

    def completed(self, upstream_reply: UpstreamReply) -> None:
        """Called with the upstream's reply. A simple reply (only addresses or a denial) is sent to the client.

        Any other reply is passed to the plugin chain, together with the query.
        """
        self._responder.in_flight.discard(self)
        try:
            simple = upstream_reply.plain
            wire = b"" if simple is None else self._encode(simple)
            reply = upstream_reply.reply if not wire else None
        except Exception as error:  # noqa: BLE001 - other queries wait for the same upstream reply
            wire, reply = b"", self._failed(error)
        if reply is not None:
            self._answer_through_chain(reply)
            return
        assert self._reader is not None
        assert simple is not None
        self._reader.queue_reply(self._sender, wire)
        try:
            self._count(simple.rcode, len(wire))
            if self._route.observes_packets:
                self._observe(wire)
        except Exception as error:  # noqa: BLE001 - the client has its reply
            self._responder.recover("what follows a reply", error)

    def _failed(self, error: Exception) -> Reply:
        self._responder.recover("the fast path", error)
        return rcode_only(Rcode.SERVFAIL)

    def _answer_through_chain(self, reply: Reply) -> None:
        reader, sender = self._reader, self._sender
        assert reader is not None
        self._responder.answer(
            self._packet,
            reader.client(sender),
            lambda wire: reader.queue_reply(sender, wire),
            self._started,
            upstream_reply=reply,
        )

    def _encode(self, simple: SimpleReply) -> bytes:
        """Returns the encoded reply for the client. Returns empty octets if the plugin chain must make the reply."""
        query, packet, end, fast_path = self._packet, simple.packet, self._end, self._fast_path
        octets = len(query) + simple.end - simple.start
        if packet[12 : simple.start] != query[12:end] or (octets > MIN_UDP and octets > udp_limit(self.edns)):
            return b""
        if fast_path.keep is None:
            if len(packet) > simple.end + _OPT_SIZE:  # the chain passes EDNS options on, such as extended errors
                return b""
            records = packet[simple.start : simple.end]
        else:
            records = with_ttl(simple, fast_path.keep(self.key, simple, self._dependencies, self._changes))
        if fast_path.shuffles and simple.end - simple.addresses > simple.size > 0:
            records = _shuffled(records, simple)
        second = packet[3] & _PASSED_SECOND | (packet[3] & _AD if self._authentic else 0)
        flags = bytes((QR >> 8 | packet[2] & _PASSED_FIRST, second))
        opt = query[end:]
        if opt:
            opt = opt[:3] + self._route.udp_size.to_bytes(2, "big") + opt[5:]
        return query[:2] + flags + b"\0\1" + packet[6:10] + query[10:end] + records + opt

    def _count(self, rcode: int, size: int) -> None:
        responder, route = self._responder, self._route
        kind = (self._fast_path, route.zone_text, self.key[1], rcode, self.key[3], len(self._packet), size)
        counters = self._counters
        hit_counter = counters.get(kind)
        if hit_counter is None:
            if len(counters) >= MAX_COUNTERS:
                counters.clear()
            hit_counter = counters[kind] = HitCounter(self._increments(rcode, size), Origin(route))
            hit_counter.duration_cell = responder.metrics.duration_cell(route) if route.counted else -1
        if hit_counter.hits == hit_counter.flushed:
            responder.dirty_fast_path.append(hit_counter)
        hit_counter.hits += 1
        responder.table.seen_before(self._packet[2:])  # as PendingReply does for replies of upstreams
        cell = hit_counter.duration_cell
        if cell >= 0:  # as `QueryMetrics.observe_duration` does, without a call for each reply
            values, seconds = responder.metrics.counters.values, perf_counter() - self._started
            values[cell + bisect_left(DURATIONS, seconds)] += 1
            values[cell + len(DURATIONS) + 1] += seconds

    def _observe(self, wire: bytes) -> None:
        """Calls the packet observers and the taps of the block with the reply `wire`."""
        assert self._reader is not None
        client, seconds = self._reader.client(self._sender), perf_counter() - self._started
        for observe in self._route.packet_observers or ():
            observe(self._packet, wire, client, seconds)
        for tap in self._route.taps:
            tap.answered(self._packet, wire, client, self._started)

    def _increments(self, rcode: int, size: int) -> tuple[Increment, ...]:
        metrics, route, (_, rtype, _, dnssec_ok, _) = self._responder.metrics, self._route, self.key
        increments = self._fast_path.increments(self._responder.listener.server)
        if route.counted:
            increments += metrics.increments_of(route, rtype, rcode, route.writer, dnssec_ok=dnssec_ok)
            increments += metrics.sizes(route, len(self._packet), size)
        return increments


def _shuffled(records: bytes, simple: SimpleReply) -> bytes:
    """Returns the records of a simple reply, with the address records in random order."""
    at, size = simple.addresses - simple.start, simple.size
    addresses = [records[one : one + size] for one in range(at, len(records), size)]
    random.shuffle(addresses)
    return records[:at] + b"".join(addresses)
