"""The short way of questions for outside names, from the packet to the reply (`svcdns.plugin_api.fast_path`).

Only what nearly all such questions are goes this way: over UDP, an address of one name in class IN, with RD, with AD or without, with an
OPT that has no options or with none. Anything else is left to the chain, and so is any question whose reply is not a plain one.
"""

from __future__ import annotations

import logging
import random
from time import perf_counter
from typing import Any, Final, Protocol

from svcdns.chain.routing import Route
from svcdns.plugin_api.fast_path import FastPath, Key, UpstreamReply
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import Increment, Reply, rcode_only
from svcdns.serving.metrics import HitCounter
from svcdns.serving.responder import Responder
from svcdns.wire.codes import AD, QR, RD, Class, Rcode, Type
from svcdns.wire.message import udp_limit
from svcdns.wire.names import MAX_LABEL, MAX_NAME
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import SimpleReply, with_ttl

MANY: Final = 4096
"""Kinds of replies whose counts are remembered."""
_HEADERS: Final = {
    flags.to_bytes(2, "big") + b"\0\1\0\0\0\0" + bytes((0, extra)): (bool(flags & AD), bool(extra))
    for flags in (RD, RD | AD)
    for extra in (0, 1)
}
"""Octets 2 to 12 of the packets that may go this way: whether AD is set, and whether there is an OPT."""
_FORWARDED: Final = (RD | AD).to_bytes(2, "big")
_IN: Final = int(Class.IN)
_OPT: Final = b"\0\0\x29"
_TYPES: Final = {b"\0\1\0\1": int(Type.A), b"\0\x1c\0\1": int(Type.AAAA)}
_OPT_SIZE: Final = 11
_OPT_TAILS: Final = {b"\0\0\0\0\0\0": False, b"\0\0\x80\0\0\0": True}
"""The last octets of an OPT without options, of version 0, and whether it has DO set."""
_PASSED_FIRST: Final = 0x05
"""AA and RD, of the first octet of flags."""
_PASSED_SECOND: Final = 0x9F
"""RA, CD and the response code, of the second."""
_AD: Final = 0x20

log = logging.getLogger("svcdns")


def try_fast_path(packet: bytes, responder: Responder, started: float) -> FastPathExchange | None:
    """A packet as one that goes the short way; None where it is the chain's.

    For listeners without audience classes, where nobody wants to see the queries.
    """
    header = _HEADERS.get(packet[2:12])
    if header is None:
        return None
    authentic, extra = header
    end = len(packet) - _OPT_SIZE if extra else len(packet)
    rtype, name = _TYPES.get(packet[end - 4 : end]), packet[12 : end - 4].lower()
    if rtype is None or name.endswith(responder.listener.inner) or not _is_name(packet, 12, end - 5):
        return None
    route = responder.listener.find(name, rtype)
    if route is None or route.fast_path is None:
        return None
    fast_path, edns, dnssec_ok = route.fast_path, None, False
    if extra:
        tail = packet[end:]
        if tail[:3] != _OPT or tail[5:] not in _OPT_TAILS:
            return None
        dnssec_ok = _OPT_TAILS[tail[5:]]
        edns = Edns(int.from_bytes(tail[3:5], "big"), dnssec_ok)
    key = (name, rtype, _IN, dnssec_ok, False)
    if fast_path.is_shut or fast_path.knows(key):
        return None
    return FastPathExchange(responder, route, fast_path, packet, key, edns, end, started, authentic=authentic or dnssec_ok)


def _is_name(packet: bytes, at: int, last: int) -> bool:
    """Whether a name of more than one label fills the packet from `at` to its root label at `last`."""
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
"""Where a datagram came from: only the reader of the socket looks into it."""


class Reader(Protocol):
    """Where questions come from and replies go to."""

    def client(self, sender: Sender) -> Client:
        """Who asked."""
        ...

    def host(self, sender: Sender) -> str:
        """The address alone."""
        ...

    def post(self, sender: Sender, wire: bytes) -> None:
        """Sends a reply."""
        ...


class FastPathExchange:
    """A question on its way."""

    __slots__ = (
        "_authentic",
        "_end",
        "_fast_path",
        "_packet",
        "_reader",
        "_responder",
        "_route",
        "_sender",
        "_started",
        "client",
        "edns",
        "key",
    )

    def __init__(
        self,
        responder: Responder,
        route: Route,
        fast_path: FastPath,
        packet: bytes,
        key: Key,
        edns: Edns | None,
        end: int,
        started: float,
        *,
        authentic: bool,
    ) -> None:
        """`end` is where the question section ends, `authentic` whether the client is told of AD."""
        self._responder, self._route, self._fast_path, self._packet, self._end, self._started = (
            responder,
            route,
            fast_path,
            packet,
            end,
            started,
        )
        self._authentic = authentic
        self.key, self.edns = key, edns
        self.client = ""
        self._reader: Reader | None = None
        self._sender: Sender = None

    @property
    def wire(self) -> bytes:
        """What upstreams are asked, behind the id."""
        return _FORWARDED + self._packet[4:]

    def leave(self, reader: Reader, sender: Sender) -> None:
        """Asks the upstreams."""
        self._reader, self._sender, self.client = reader, sender, reader.host(sender)
        self._responder.in_flight.add(self)
        assert self._fast_path.ask is not None
        try:
            refused = self._fast_path.ask(self)
        except Exception:  # noqa: BLE001 - the server loop: one bad question must not end the process
            refused = self._failed()
        if refused is not None:
            self._responder.in_flight.discard(self)
            self._go_through_the_chain(refused)

    def completed(self, completed: UpstreamReply) -> None:
        """Sends the reply on, or goes through the chain with it."""
        self._responder.in_flight.discard(self)
        try:
            plain = completed.plain
            wire = b"" if plain is None else self._reply(plain)
            if wire and plain is not None and self._reader is not None:
                self._reader.post(self._sender, wire)
                self._count(plain.rcode, len(wire))
                return
            reply = completed.reply
        except Exception:  # noqa: BLE001 - whoever brings the reply is not to suffer from what goes wrong here
            reply = self._failed()
        self._go_through_the_chain(reply)

    def _failed(self) -> Reply:
        log.exception("Recovered from a failure on the short way of %s", self._responder.listener.server)
        self._responder.accounts.panicked()
        return rcode_only(Rcode.SERVFAIL)

    def _go_through_the_chain(self, reply: Reply) -> None:
        reader, sender = self._reader, self._sender
        assert reader is not None
        self._responder.answer(
            self._packet, reader.client(sender), lambda wire: reader.post(sender, wire), self._started, upstream_reply=reply
        )

    def _reply(self, plain: SimpleReply) -> bytes:
        """The client's reply; nothing if it is not as simple as that."""
        asked, packet, end, fast_path = self._packet, plain.packet, self._end, self._fast_path
        if packet[12 : plain.start] != asked[12:end] or len(asked) + plain.end - plain.start > udp_limit(self.edns):
            return b""
        assert fast_path.keep is not None
        records = with_ttl(plain, fast_path.keep(self.key, plain))
        if fast_path.shuffles and plain.end - plain.addresses > plain.size > 0:
            records = _shuffled(records, plain)
        second = packet[3] & _PASSED_SECOND | (packet[3] & _AD if self._authentic else 0)
        flags = bytes((QR >> 8 | packet[2] & _PASSED_FIRST, second))
        return asked[:2] + flags + b"\0\1" + packet[6:10] + asked[10:end] + records + asked[end:]

    def _count(self, rcode: int, size: int) -> None:
        responder, route = self._responder, self._route
        kind = (self._fast_path, route.zone_text, self.key[1], rcode, self.key[3], len(self._packet), size)
        hit_counter = responder.kinds.get(kind)
        if hit_counter is None:
            if len(responder.kinds) >= MANY:
                responder.kinds.clear()
            hit_counter = responder.kinds[kind] = HitCounter(self._increments(rcode, size), route)
        if hit_counter.hits == hit_counter.flushed:
            responder.relayed.append(hit_counter)
        hit_counter.hits += 1
        if route.counted:
            responder.accounts.took(route, perf_counter() - self._started)

    def _increments(self, rcode: int, size: int) -> tuple[Increment, ...]:
        accounts, route, (_, rtype, _, dnssec_ok, _) = self._responder.accounts, self._route, self.key
        increments = self._fast_path.increments(self._responder.listener.server)
        if route.counted:
            increments += accounts.increments_of(route, rtype, rcode, route.writer, dnssec_ok=dnssec_ok) + accounts.sizes(
                route, len(self._packet), size
            )
        return increments


def _shuffled(records: bytes, plain: SimpleReply) -> bytes:
    """The records with their addresses in random order."""
    at, size = plain.addresses - plain.start, plain.size
    addresses = [records[one : one + size] for one in range(at, len(records), size)]
    random.shuffle(addresses)
    return records[:at] + b"".join(addresses)
