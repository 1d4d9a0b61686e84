"""Sends, counts and stores the reply of the plugin chain to one query.

Rules:

1. Each query gets one reply. If an error occurs before the reply is sent, the reply is SERVFAIL. Later errors are
   logged.
2. A reply that arrives later is stored only if no change was applied since the query arrived.
3. A query of a class other than IN never gets a record of another class.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final

import msgspec

from svcdns.chain.routing import CONFIGURATION, Route
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.rate_limit import MAX_AMPLIFICATION, LimitedReply, RateLimiter, Verdict
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, CacheScope, Increment, Reply, Variants, rcode_only
from svcdns.serving import zone_stream
from svcdns.serving.answer_table import NEGATIVE_LIFETIME, Countdown, Details, Entry
from svcdns.serving.metrics import is_counted
from svcdns.serving.rotations import random, variants
from svcdns.serving.stored_replies import StoredReplies
from svcdns.wire.codes import TC, Class, Rcode, Type
from svcdns.wire.edns import HopByHop
from svcdns.wire.hop_options import COOKIE_SIZE
from svcdns.wire.message import MAX_MESSAGE, encode_reply, rotations, udp_limit
from svcdns.wire.request import Request
from svcdns.wire.ttl import ttl_offsets

Send = Callable[[bytes], None]
"""Sends a finished reply to the client. Called once for each query, at once or later; empty octets mean "no reply"."""

_TRUNCATED: Final = TC >> 8
_EXTENDED: Final = 16
"""Response codes of this value and above are partly in the OPT record, which packet observers do not read."""


class PendingReply(msgspec.Struct, gc=False, eq=False):
    """One query that the plugin chain answers.

    - `changes` is the number of changes that were applied to the answer table before the query arrived. If the number
      has grown when the reply arrives, the reply is not stored.
    - `self_queries` is the number of queries that plugins had sent to this server. If the number has grown, another
      server block may have taken part in the reply.
    - `packet` is the query without hop-by-hop EDNS options, which are in `asked`. `packet` and `key` are empty if the
      reply cannot be reused.
    - `limiter` limits the rate of the reply, or is None. `exempt` is true if the client has a valid cookie, and so no
      limit.
    - `is_early` is true if no client has sent the query: the reply is stored, but not counted or observed.
    """

    responder: StoredReplies
    packet: bytes
    key: bytes
    request: Request
    query: Query
    route: Route
    send: Send
    changes: int
    self_queries: int
    outlet: zone_stream.Outlet | None = None
    asked: HopByHop | None = None
    limiter: RateLimiter | None = None
    exempt: bool = False
    is_early: bool = False

    def completed(self, reply: Reply) -> None:
        """Called when the reply of a `Deferred` has arrived. Sends the reply."""
        self.responder.in_flight.discard(self)
        self.finish(reply)

    def failed(self, error: Exception) -> None:
        """Called when a `Deferred` ends with an exception. Answers SERVFAIL."""
        self.responder.in_flight.discard(self)
        self.fail(error)

    async def wait(self, answer: Awaitable[Reply]) -> None:
        """Waits for the reply, and sends it."""
        try:
            reply = await answer
        except Exception as error:  # noqa: BLE001 - as in Responder.answer
            self.fail(error)
        else:
            self.finish(reply)

    def fail(self, error: Exception) -> None:
        """Logs the exception of the plugin chain, and answers SERVFAIL."""
        self.responder.recover("the chain", error)
        try:
            self._finish(rcode_only(Rcode.SERVFAIL))
        except Exception as another:  # noqa: BLE001 - nothing is sent: a plugin put a value into the query that cannot be encoded
            self.responder.recover("the reply that tells of a failure", another)
            self.send(b"")

    def finish(self, reply: Reply) -> None:
        """Sends the reply, counts it, and stores it if it may be used again. Raises no exceptions."""
        try:
            self._finish(reply)
        except Exception as error:  # noqa: BLE001 - nothing is sent yet
            self.fail(error)

    def _finish(self, reply: Reply) -> None:
        """Sends, counts and stores the reply.

        Raises exceptions only before the reply is sent. Later exceptions are logged.
        """
        if reply.dropped:
            self.send(b"")
            return
        query, request = self.query, self.request
        # the chain may have changed the EDNS that the reply mirrors: `bufsize`, `rewrite edns0`
        request.edns = None if query.edns_added else query.edns
        if reply.stream is not None:
            if self.outlet is not None:
                self.responder.in_flight.start(self._stream(reply, self.outlet))
                return
            reply = rcode_only(Rcode.REFUSED)
        if not reply.has_message:
            reply = Reply(rcode=reply.rcode, flags=query.reply_flags, extended=reply.extended, has_message=False)
        if query.rclass != Class.IN and _has_other_class(reply, query.rclass):
            reply = Reply(rcode=Rcode.REFUSED, flags=query.reply_flags, has_message=False)
        responder = self.responder
        limit = udp_limit(request.edns) if responder.datagrams else MAX_MESSAGE
        if self.limiter is not None and not self.exempt:
            limit = min(limit, self._amplified)
        store = (
            reply.lifetime > NOT_REUSABLE
            and reply.scope <= (CacheScope.SHARED if responder.listener.classes is None else CacheScope.CLIENT_CLASS)
            and responder.table.changes == self.changes
            and self.key != b""
            and (reply.rcode < _EXTENDED or not responder.observes_packets)
            and responder.table.seen_before(self.key)
            and (query.span is None or responder.table.find(self.key, responder.table.now()) is None)
        )
        if reply.source and reply.lifetime == NOT_REUSABLE and self.key:
            # the plugin *cache* answers the next query, and the table can store that reply
            responder.table.seen_before(self.key)
        if reply.rotate is None:
            wires: tuple[bytes, ...] = (
                encode_reply(request, reply, limit, responder.listener.echoed, self.route.udp_size),
            )
        else:
            wires = self._rotations(reply.rotate(reply, random), limit, store=store)
        verdict, limited = Verdict.SEND, None
        if self.limiter is not None:
            wires, reply = self._shortened(wires, reply, limit)
            limited = LimitedReply(self.limiter, self.limiter.account(query, reply))
            store = store and max(map(len, wires)) <= self._amplified
            verdict = verdict if self.exempt else responder.verdict(limited, query.requestor)
        wire = wires[0]
        if verdict is Verdict.DROP:
            wire = b""
        elif verdict is Verdict.TRUNCATE:
            wire = responder.truncated(request, self.asked, query.requestor, reply.rcode)
        elif self.asked is not None:
            wire = responder.with_hop_options(
                wire, self.asked, query.requestor, limit if limited is None else MAX_MESSAGE
            )
        try:
            self.send(wire)
            if self.route.observers and wire and wire[2] & _TRUNCATED:
                reply = msgspec.structs.replace(reply, flags=reply.flags | TC)
            increments = self._count(reply, len(wire), sent=verdict is Verdict.SEND and not self.is_early)
            if store:
                self._store(reply, wires, increments, limited)
            elif reply.rcode == Rcode.NXDOMAIN and reply.lifetime == UNTIL_CHANGED and not self.exempt:
                self._note_negative(wires[0], increments, limited)
        except Exception as error:  # noqa: BLE001 - the client has its reply
            responder.recover("what follows a reply", error)

    @property
    def _amplified(self) -> int:
        """Returns the greatest length in octets of a reply to a client that has not proved its address.

        The option COOKIE is not included, because it is appended later.
        """
        if self.packet:  # without the query's COOKIE, three times whose octets are more than the reply's
            return MAX_AMPLIFICATION * len(self.packet)
        return MAX_AMPLIFICATION * self.query.size - COOKIE_SIZE

    def _shortened(self, wires: tuple[bytes, ...], reply: Reply, limit: int) -> tuple[tuple[bytes, ...], Reply]:
        """Returns the encoded reply and the reply, shortened to at most `limit` octets.

        Counts a reply that is truncated because it is much longer than its query.
        """
        if self.exempt or self.limiter is None or limit < self._amplified:
            return wires, reply
        if len(wires[0]) > limit:
            wires = (self.responder.truncated(self.request, None, self.query.requestor, reply.rcode),)
        if wires[0][2] & _TRUNCATED:
            increments = (*reply.increments, self.limiter.count_shortened())
            reply = msgspec.structs.replace(reply, increments=increments)
        return wires, reply

    def _rotations(self, rotation: Variants, limit: int, *, store: bool) -> tuple[bytes, ...]:
        """Returns the encoded reply with its records in a random order.

        If `store` is true, returns it in several orders.
        """
        echoed, size = self.responder.listener.echoed, self.route.udp_size
        begin = rotation.variant(0, 1)
        first = encode_reply(self.request, begin, limit, echoed, size)
        count = variants(first, rotation.widest) if store else 1
        wires = rotations(self.request, begin, first, count) if rotation.turns_answer and count > 1 else []
        if wires:
            return tuple(wires)
        return (
            first,
            *[
                encode_reply(self.request, rotation.variant(number, count), limit, echoed, size)
                for number in range(1, count)
            ],
        )

    async def _stream(self, reply: Reply, outlet: zone_stream.Outlet) -> None:
        """Sends a reply of several messages. Counts it as one reply."""
        size = await zone_stream.send(
            self.request, reply, outlet, self.send, self.responder.listener.echoed, self.route.udp_size
        )
        try:
            self._count(reply, size)
        except Exception as error:  # noqa: BLE001 - the client has its reply
            self.responder.recover("what follows a reply", error)

    def _count(self, reply: Reply, size: int, *, sent: bool = True) -> tuple[Increment, ...]:
        """Counts a sent reply of `size` octets in the metrics, and calls the hook `observe` of the block's plugins.

        Returns the increments for each later use of the reply from the answer table.
        """
        responder, query, route, increments = self.responder, self.query, self.route, reply.increments
        metrics = responder.metrics
        seconds = perf_counter() - query.started
        if is_counted(route):
            own = metrics.increments(query, route, reply) + metrics.sizes(route, query.size, size)
            if sent:
                metrics.add(own)
                metrics.observe_duration(route, seconds)
            increments = own + increments
        if route.observers and sent:
            responder.observe(route, query, reply, size, seconds)
        return increments

    def _note_negative(self, wire: bytes, increments: tuple[Increment, ...], limited: LimitedReply | None) -> None:
        """Stores a negative reply, for all nonexistent names that have the same closest encloser.

        Does nothing if the names may not share a reply.

        A reply is not stored if the cluster has changed since the query arrived.
        """
        responder, route, query = self.responder, self.route, self.query
        if route.closest_encloser is None or responder.listener.classes is not None or not self.packet:
            return
        if (route.observers or route.taps) and not responder.observes_packets:
            return
        encloser = route.closest_encloser(query.key, query.rtype)
        if (
            encloser is not None
            and responder.table.changes == self.changes
            and not responder.listener.is_divided(encloser.key)
        ):
            hit_counter = responder.metrics.hit_counter(increments, route)
            responder.table.negative.note(self.packet, wire, encloser, hit_counter, limited)

    def _store(
        self,
        reply: Reply,
        wires: tuple[bytes, ...],
        increments: tuple[Increment, ...],
        limited: LimitedReply | None,
    ) -> None:
        table = self.responder.table
        ends, details = UNTIL_CHANGED, None  # nearly all entries share this float object
        if reply.lifetime != UNTIL_CHANGED:
            ends = table.now() + reply.lifetime
        if any(record.rtype == Type.SOA for record in reply.authority):
            ends = min(ends, table.deadline(NEGATIVE_LIFETIME))
        counts_down = reply.next_second < reply.lifetime
        observed = bool(self.route.observers or self.route.taps) and not self.responder.observes_packets
        if counts_down or limited is not None or observed:
            details = Details(limited=limited)
            if counts_down:
                details.countdown = Countdown(tuple(tuple(at - 2 for at in ttl_offsets(wire)) for wire in wires), ends)
                ends = table.now() + reply.next_second
            if observed:
                self.query.span = None  # later queries with this reply are not traced
                details.observed = (self.query, reply, self.route)
        dependencies = reply.dependencies
        mixed = bool(dependencies) and reply.lifetime != UNTIL_CHANGED  # perhaps from an entry of *cache*
        if mixed or self.responder.listener.self_queries != self.self_queries:
            dependencies = (CONFIGURATION, *dependencies)
        hit_counter = self.responder.metrics.hit_counter(increments, self.route)
        table.put(Entry.of(self.key, tuple([wire[2:] for wire in wires]), ends, dependencies, hit_counter, details))


def _has_other_class(reply: Reply, rclass: int) -> bool:
    """Returns True if a record of the reply has another class than `rclass`."""
    return any(
        record.rclass != rclass for section in (reply.answer, reply.authority, reply.additional) for record in section
    )
