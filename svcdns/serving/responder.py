"""From a packet that the answer table does not know to the reply that goes out, and to the entry that may answer the next.

One `Responder` per listener, protocol and address family: it reads the request, asks the chain, encodes what comes back, counts it, and
puts it into its table where the reply may be used again. It knows no sockets. A reply that came later is stored only if no change
was applied since it was asked for.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final

import msgspec

from svcdns.chain.routing import DROPPED, Listener, Route
from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, CacheScope, Increment, Reply, rcode_only
from svcdns.serving import zone_stream
from svcdns.serving.answer_table import AnswerTable, Countdown, Entry
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import Accounts, Durations, HitCounter, is_counted
from svcdns.wire.codes import TC, Rcode, Type
from svcdns.wire.message import MAX_MESSAGE, encode_reply, turned, udp_limit
from svcdns.wire.record import Edns
from svcdns.wire.request import Request, accept
from svcdns.wire.ttl import ttl_offsets

Send = Callable[[bytes], None]
"""Sends a finished reply to whoever asked, now or later, once; empty bytes mean that there is none to send."""

ROTATIONS: Final = 32
"""Variants that a load-balanced answer is compiled in, where that shows every record."""
MAX_ROTATIONS: Final = 64
FRESH: Final = 30.0
"""Seconds that a negative answer is kept: the serial in its SOA moves with changes that leave the answer right."""
MAX_ROTATED_OCTETS: Final = 128 << 10
TRUNCATED: Final = TC >> 8

log = logging.getLogger("svcdns")
_random: Final = random.Random()


class Responder:
    """Answers the packets of one listener over one protocol and address family.

    `listener` is replaced at a reload; whoever replaces it clears the table in the same step.
    """

    def __init__(
        self, listener: Listener, table: AnswerTable, accounts: Accounts, clock: Clock, protocol: str, in_flight: InFlight
    ) -> None:
        """`protocol` is `udp` or `tcp`; `accounts` are those of this protocol and family; `in_flight` is the worker's."""
        self.listener, self.table, self.accounts, self.clock, self.protocol = listener, table, accounts, clock, protocol
        self.in_flight = in_flight
        self.durations = Durations()
        """Of answers from the table; `fold` takes them out."""
        self.kinds: dict[tuple[object, ...], HitCounter] = {}
        """How many replies of each kind came the short way."""
        self.relayed: list[HitCounter] = []
        """Which of these are not in the counters yet."""

    def answer(
        self,
        packet: bytes,
        client: Client,
        send: Send,
        started: float,
        outlet: zone_stream.Outlet | None = None,
        upstream_reply: Reply | None = None,
    ) -> None:
        """Answers one packet, now or later; `started` is when it was taken from its socket, on `perf_counter`.

        `outlet` takes the messages before the last one of a reply that has several; without it there are no such replies.
        `upstream_reply` is the upstreams' reply, where that is there already.
        """
        request = accept(packet)
        if not isinstance(request, Request):
            send(request or b"")
            return
        query = self._query(request, client, len(packet), started)
        query.upstream_reply = upstream_reply
        route = self.listener.route(query)
        if request.edns is not None and request.edns.version and route is not DROPPED:
            send(_bad_version(request, query))
            return
        order = PendingReply(self, packet, self.key(packet, client), request, query, route, send, self.table.changes, outlet)
        try:
            answer = self.listener.answer(query, route)
            if isinstance(answer, Reply):
                order.finish(answer)
                return
        except Exception:  # noqa: BLE001 - the server loop: one bad question must not end the process
            order.failed()
            return
        if isinstance(answer, Deferred):
            self.in_flight.add(order)
            answer.take(order.arrived, order.broken)
        else:
            self.in_flight.start(order.later(answer))

    def answer_negative(self, key: bytes) -> bytes:
        """The reply to a packet, both without their ids, where it is about a name that is known not to be there; empty where `answer` has
        to be called: also for what comes again, so that it gets an entry of its own. For listeners without audience classes alone.
        """
        table = self.table
        found = table.negative.find(key)
        if found is None or table.sighted(key):
            return b""
        hit_counter = found.hit_counter
        if hit_counter.hits == hit_counter.flushed:
            table.touched.append(hit_counter)
        hit_counter.hits += 1
        return found.head + key[10 : len(key) - found.beyond] + found.tail

    def _query(self, request: Request, client: Client, size: int, started: float) -> Query:
        name = request.name
        return Query(
            name, name.lower(), request.rtype, request.rclass, request.flags, request.edns, client, self.listener.ask,
            ident=request.ident, size=size, started=started, server=self.listener.server, serial=request.serial,
        )  # fmt: skip

    def key(self, packet: bytes, client: Client) -> bytes:
        """What the table knows the packet under: its octets behind the id, behind the client's class where the listener has classes."""
        classes = self.listener.classes
        return packet[2:] if classes is None else classes.of(client.address) + packet[2:]

    def hit(self, entry: Entry, packet: bytes, client: Client, size: int, started: float) -> None:
        """Shows an answer from the table to the observers of its block; `size` is the reply's length."""
        if entry.seen is not None:
            query, reply, route = entry.seen
            again = query.changed(ident=int.from_bytes(packet[:2], "big"), client=client)
            for observe in route.observers:
                observe(again, reply, size, perf_counter() - started)


class PendingReply(msgspec.Struct, gc=False, eq=False):
    """One question being answered."""

    responder: Responder
    packet: bytes
    key: bytes
    request: Request
    query: Query
    route: Route
    send: Send
    changes: int
    outlet: zone_stream.Outlet | None = None

    def arrived(self, reply: Reply) -> None:
        """Finishes with a reply that somebody has waited for; whoever brings it is not to suffer from what goes wrong here."""
        self.responder.in_flight.discard(self)
        try:
            self.finish(reply)
        except Exception:  # noqa: BLE001 - as in Desk.answer
            self.failed()

    def broken(self, error: Exception) -> None:
        """What the chain raised when the reply came."""
        self.responder.in_flight.discard(self)
        self.failed(error)

    async def later(self, answer: Awaitable[Reply]) -> None:
        """Waits for the reply and finishes."""
        try:
            self.finish(await answer)
        except Exception:  # noqa: BLE001 - as in Desk.answer
            self.failed()

    def failed(self, error: Exception | None = None) -> None:
        """Answers SERVFAIL where a chain broke; `error` is what it raised, if that is not being handled now."""
        log.error("Recovered from a failure in the chain of %s", self.responder.listener.server, exc_info=error or True)
        self.responder.accounts.panicked()
        self.finish(rcode_only(Rcode.SERVFAIL))

    def finish(self, reply: Reply) -> None:
        """Sends the reply, counts it, and stores it if it may be used again."""
        if reply.dropped:
            self.send(b"")
            return
        responder, query = self.responder, self.query
        request = self.request
        request.edns = query.edns  # as the chain left it: `bufsize` and `rewrite edns0` change what is mirrored
        if reply.stream is not None:
            if self.outlet is not None:
                responder.in_flight.start(self._stream(reply, self.outlet))
                return
            reply = rcode_only(Rcode.REFUSED)
        if not reply.has_message:
            reply = Reply(rcode=reply.rcode, flags=query.reply_flags, extended=reply.extended, has_message=False)
        limit = MAX_MESSAGE if responder.protocol == "tcp" else udp_limit(request.edns)
        keep = (
            reply.lifetime > NOT_REUSABLE
            and reply.scope <= (CacheScope.SHARED if responder.listener.classes is None else CacheScope.CLIENT_CLASS)
            and responder.table.changes == self.changes
            and responder.table.sighted(self.key)
        )
        wires = self._rotated(reply, limit, keep=keep)
        self.send(wires[0])
        increments = self._account(reply, len(wires[0]))
        if keep:
            self._store(reply, wires, increments)
        elif reply.rcode == Rcode.NXDOMAIN and reply.lifetime == UNTIL_CHANGED:
            self._note_negative(wires[0], increments)

    def _rotated(self, reply: Reply, limit: int, *, keep: bool) -> tuple[bytes, ...]:
        """The reply; in a random order if it wants that, and where it is kept in others besides."""
        echoed = self.responder.listener.echoed
        if reply.rotate is None:
            return (encode_reply(self.request, reply, limit, echoed),)
        rotation = reply.rotate(reply, _random)
        begin = rotation.variant(0, 1)
        first = encode_reply(self.request, begin, limit, echoed)
        count = variants(first, rotation.widest) if keep else 1
        wires = turned(self.request, begin, first, count) if rotation.turns_answer and count > 1 else []
        if wires:
            return tuple(wires)
        return (first, *[encode_reply(self.request, rotation.variant(number, count), limit, echoed) for number in range(1, count)])

    async def _stream(self, reply: Reply, outlet: zone_stream.Outlet) -> None:
        """Sends a reply of several messages, and counts it as one."""
        self._account(reply, await zone_stream.send(self.request, reply, outlet, self.send, self.responder.listener.echoed))

    def _account(self, reply: Reply, size: int) -> tuple[Increment, ...]:
        """Counts a reply of so many octets and shows it to the observers; what each further use of it adds."""
        responder, query, route, increments = self.responder, self.query, self.route, reply.increments
        seconds = perf_counter() - query.started
        if is_counted(route):
            own = responder.accounts.increments(query, route, reply) + responder.accounts.sizes(route, query.size, size)
            responder.accounts.add(own)
            responder.accounts.took(route, seconds)
            increments = own + increments
        for observe in route.observers:
            observe(query, reply, size, seconds)
        return increments

    def _note_negative(self, wire: bytes, increments: tuple[Increment, ...]) -> None:
        """Keeps the answer for other names that are not there either, where all of them get the same."""
        responder, route, query = self.responder, self.route, self.query
        if route.closest_encloser is None or responder.listener.classes is not None:
            return
        encloser = route.closest_encloser(query.key, query.rtype)
        if encloser is not None and responder.table.changes == self.changes and not responder.listener.is_divided(encloser.key):
            responder.table.negative.note(self.packet, wire, encloser, responder.accounts.hit_counter(increments, route))

    def _store(self, reply: Reply, wires: tuple[bytes, ...], increments: tuple[Increment, ...]) -> None:
        table = self.responder.table
        now = table.now()
        ends = UNTIL_CHANGED if reply.lifetime == UNTIL_CHANGED else now + reply.lifetime  # one object for nearly all of them
        if any(record.rtype == Type.SOA for record in reply.authority):
            ends = min(ends, now + FRESH)
        hit_counter = self.responder.accounts.hit_counter(increments, self.route)
        entry = Entry(self.key, tuple([wire[2:] for wire in wires]), ends, reply.dependencies, hit_counter)
        if reply.next_second < reply.lifetime:
            entry.deadline = now + reply.next_second
            entry.countdown = Countdown(tuple(tuple(at - 2 for at in ttl_offsets(wire)) for wire in wires), ends)
        if self.route.observers:
            entry.seen = (self.query, reply, self.route)
        table.put(entry)


def variants(wire: bytes, widest: int) -> int:
    """How many variants a reply is compiled in: each record comes first equally often, and truncated ones show every record in turn."""
    count = ROTATIONS
    if wire[2] & TRUNCATED:
        shown = max(1, int.from_bytes(wire[6:8], "big"))
        count = min(MAX_ROTATIONS, max(ROTATIONS, -(-widest // shown)))
    return max(1, min(widest, count, MAX_ROTATED_OCTETS // len(wire)))


def _bad_version(request: Request, query: Query) -> bytes:
    """RFC 6891 §6.1.3: BADVERS, and the version that we do speak."""
    plain = msgspec.structs.replace(request, edns=None)
    return encode_reply(plain, Reply(rcode=Rcode.BADVERS, flags=query.reply_flags, edns=Edns(size=0)), MAX_MESSAGE)
