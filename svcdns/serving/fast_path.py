"""The short way of questions for outside names, from the packet to the reply (`svcdns.plugin_api.fast_path`).

Only what nearly all such questions are goes this way: over UDP, an address of one name in class IN, with RD, with AD or without, with an
OPT that has no options or with none. Anything else is left to the chain, and so is any question whose reply is not a plain one.
"""

from __future__ import annotations

import logging
import random
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from svcdns.chain.routing import Route
from svcdns.plugin_api.fast_path import Key, Landed, Relay
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import Count, Reply, bare
from svcdns.serving.metrics import Tally
from svcdns.serving.transport.udp_batch import Sender
from svcdns.wire.codes import AD, QR, RD, Class, Rcode, Type
from svcdns.wire.message import udp_limit
from svcdns.wire.names import MAX_LABEL, MAX_NAME
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import Plain, with_ttl

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

if TYPE_CHECKING:
    from svcdns.serving.responder import Desk

log = logging.getLogger("svcdns")
aboard: Final[set[Passenger]] = set()
"""Questions that are on their way."""


def outbound(packet: bytes, desk: Desk, started: float) -> Passenger | None:
    """A packet as one that goes the short way; None where it is the chain's.

    For listeners without audience classes, where nobody wants to see the queries.
    """
    header = _HEADERS.get(packet[2:12])
    if header is None:
        return None
    authentic, extra = header
    end = len(packet) - _OPT_SIZE if extra else len(packet)
    rtype, name = _TYPES.get(packet[end - 4 : end]), packet[12 : end - 4].lower()
    if rtype is None or name.endswith(desk.listener.inner) or not _is_name(packet, 12, end - 5):
        return None
    route = desk.listener.find(name, rtype)
    if route is None or route.relay is None:
        return None
    relay, edns, dnssec_ok = route.relay, None, False
    if extra:
        tail = packet[end:]
        if tail[:3] != _OPT or tail[5:] not in _OPT_TAILS:
            return None
        dnssec_ok = _OPT_TAILS[tail[5:]]
        edns = Edns(int.from_bytes(tail[3:5], "big"), dnssec_ok)
    key = (name, rtype, _IN, dnssec_ok, False)
    if relay.is_shut or relay.knows(key):
        return None
    return Passenger(desk, route, relay, packet, key, edns, end, started, authentic=authentic or dnssec_ok)


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


class Passenger:
    """A question on its way."""

    __slots__ = ("_authentic", "_desk", "_end", "_packet", "_reader", "_relay", "_route", "_sender", "_started", "client", "edns", "key")

    def __init__(
        self,
        desk: Desk,
        route: Route,
        relay: Relay,
        packet: bytes,
        key: Key,
        edns: Edns | None,
        end: int,
        started: float,
        *,
        authentic: bool,
    ) -> None:
        """`end` is where the question section ends, `authentic` whether the client is told of AD."""
        self._desk, self._route, self._relay, self._packet, self._end, self._started = desk, route, relay, packet, end, started
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
        aboard.add(self)
        assert self._relay.ask is not None
        try:
            refused = self._relay.ask(self)
        except Exception:  # noqa: BLE001 - the server loop: one bad question must not end the process
            refused = self._failed()
        if refused is not None:
            aboard.discard(self)
            self._go_through_the_chain(refused)

    def landed(self, landed: Landed) -> None:
        """Sends the reply on, or goes through the chain with it."""
        aboard.discard(self)
        try:
            plain = landed.plain
            wire = b"" if plain is None else self._reply(plain)
            if wire and plain is not None and self._reader is not None:
                self._reader.post(self._sender, wire)
                self._count(plain.rcode, len(wire))
                return
            reply = landed.reply
        except Exception:  # noqa: BLE001 - whoever brings the reply is not to suffer from what goes wrong here
            reply = self._failed()
        self._go_through_the_chain(reply)

    def _failed(self) -> Reply:
        log.exception("Recovered from a failure on the short way of %s", self._desk.listener.server)
        self._desk.accounts.panicked()
        return bare(Rcode.SERVFAIL)

    def _go_through_the_chain(self, reply: Reply) -> None:
        reader, sender = self._reader, self._sender
        assert reader is not None
        self._desk.answer(self._packet, reader.client(sender), lambda wire: reader.post(sender, wire), self._started, brought=reply)

    def _reply(self, plain: Plain) -> bytes:
        """The client's reply; nothing if it is not as simple as that."""
        asked, packet, end, relay = self._packet, plain.packet, self._end, self._relay
        if packet[12 : plain.start] != asked[12:end] or len(asked) + plain.end - plain.start > udp_limit(self.edns):
            return b""
        assert relay.keep is not None
        records = with_ttl(plain, relay.keep(self.key, plain))
        if relay.shuffles and plain.end - plain.addresses > plain.size > 0:
            records = _shuffled(records, plain)
        second = packet[3] & _PASSED_SECOND | (packet[3] & _AD if self._authentic else 0)
        flags = bytes((QR >> 8 | packet[2] & _PASSED_FIRST, second))
        return asked[:2] + flags + b"\0\1" + packet[6:10] + asked[10:end] + records + asked[end:]

    def _count(self, rcode: int, size: int) -> None:
        desk, route = self._desk, self._route
        kind = (self._relay, route.zone_text, self.key[1], rcode, self.key[3], len(self._packet), size)
        tally = desk.kinds.get(kind)
        if tally is None:
            if len(desk.kinds) >= MANY:
                desk.kinds.clear()
            tally = desk.kinds[kind] = Tally(self._counts(rcode, size), route)
        if tally.hits == tally.folded:
            desk.relayed.append(tally)
        tally.hits += 1
        if route.counted:
            desk.accounts.took(route, perf_counter() - self._started)

    def _counts(self, rcode: int, size: int) -> tuple[Count, ...]:
        accounts, route, (_, rtype, _, dnssec_ok, _) = self._desk.accounts, self._route, self.key
        counts = self._relay.counts(self._desk.listener.server)
        if route.counted:
            counts += accounts.counts_of(route, rtype, rcode, route.writer, dnssec_ok=dnssec_ok) + accounts.sizes(
                route, len(self._packet), size
            )
        return counts


def _shuffled(records: bytes, plain: Plain) -> bytes:
    """The records with their addresses in random order."""
    at, size = plain.addresses - plain.start, plain.size
    addresses = [records[one : one + size] for one in range(at, len(records), size)]
    random.shuffle(addresses)
    return records[:at] + b"".join(addresses)
