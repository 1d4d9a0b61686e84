"""Answers packets from the answer table or through the plugin chain, and stores replies of the chain in the table.

There is one `Responder` for each listener, protocol and address family. It has no access to sockets. Only this module
decides which packets may be answered without the chain:

- The answer table serves every listener. The key is the packet without its message id; on a listener with client
  classes, the client class precedes it.
- Shared negative answers (`negative_answers`) serve listeners without client classes.
- The fast path (`fast_path`) serves responders whose clients all get the same replies (`uniform`).

Rules:

1. Each query gets one reply. An error before the reply is sent turns the reply into SERVFAIL; an error after that is
   logged.
2. An exception of a plugin's hook is logged and counted in `coredns_panics_total`. It ends neither the batch nor the
   process.
3. A reply that the chain does not return at once is stored only if no change was applied since its query came.
4. Plugins and upstreams never see the EDNS options COOKIE, TCP keepalive and PADDING, and stored replies do not have
   them (`wire.hop_options`). They are appended to each reply: a server cookie (RFC 7873); over TCP and TLS, the idle
   timeout of the connection (RFC 7828), or 0 while the server is about to close its connections; over TLS, padding
   (RFC 7830).
5. A query of a class other than IN never gets a record of another class.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Final

import msgspec

from svcdns.chain.routing import DROPPED, Listener, Route
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.rate_limit import MAX_AMPLIFICATION, LimitedReply, RateLimiter, Verdict
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, CacheScope, Increment, Reply, Variants, rcode_only
from svcdns.serving import zone_stream
from svcdns.serving.answer_table import AnswerTable, Countdown, Entry
from svcdns.serving.cookies import Cookies
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import TRAILING, Durations, HitCounter, QueryMetrics, is_counted
from svcdns.wire import hop_options
from svcdns.wire.codes import CD, QR, RD, TC, Class, OptionCode, Rcode, Type
from svcdns.wire.edns import HopByHop, for_reply, hop_by_hop, without_hop_by_hop
from svcdns.wire.edns import to_wire as opt_to_wire
from svcdns.wire.message import MAX_MESSAGE, MIN_UDP, encode_reply, rotations, udp_limit
from svcdns.wire.request import HEADER, Rejected, Request, accept
from svcdns.wire.ttl import ttl_offsets

Send = Callable[[bytes], None]
"""Sends a finished reply to the client. Called once for each query, at once or later; empty octets mean "no reply"."""

ROTATIONS: Final = 32
"""The usual number of rotations (orders of the records) in which a load-balanced answer is encoded.

More rotations are made if truncation hides some of the records.
"""
MAX_ROTATIONS: Final = 64
NEGATIVE_LIFETIME: Final = 30.0
"""The longest time in seconds that a negative answer is stored. This limits the age of the SOA serial in the answer.

The serial also grows with changes that do not invalidate the answer.
"""
MAX_ROTATED_OCTETS: Final = 128 << 10
MAX_KEY: Final = 4096
"""The most octets of a query whose reply is stored. It takes long to look up a longer query in the answer table."""
MAX_KEEPALIVE: Final = 0xFFFF
"""The longest timeout that the option TCP keepalive can announce, in tenths of a second (RFC 7828 §3.1)."""
_TRUNCATED: Final = TC >> 8

_random: Final = random.Random()


class Responder:
    """Answers the packets of one listener over one protocol and address family."""

    def __init__(
        self,
        listener: Listener,
        table: AnswerTable,
        metrics: QueryMetrics,
        protocol: str,
        in_flight: InFlight,
        cookies: Cookies | None = None,
    ) -> None:
        """`protocol` is `udp` or `tcp`, and `metrics` belong to that protocol; `in_flight` belongs to the worker.

        Without `cookies`, the cookies of clients are ignored.
        """
        self.cookies = cookies
        self.listener, self.table, self.metrics, self.protocol, self.in_flight = (
            listener,
            table,
            metrics,
            protocol,
            in_flight,
        )
        self.limited = False
        """True if a plugin limits the rate of replies: then call `lookup_limited` in place of `lookup`."""
        self.uniform = False
        """True if all clients get the same replies, and no plugin observes queries or limits the rate of replies."""
        self._set_properties()
        self._hooks = HookCaller(metrics.counters)
        self.durations = Durations()
        """The durations of replies from the table since the last flush of the metrics."""
        self.fast_path_counters: dict[tuple[object, ...], HitCounter] = {}
        """Hit counters of fast-path replies, by all properties of a reply that decide which metrics it adds to."""
        self.dirty_fast_path: list[HitCounter] = []
        """The counters of `fast_path_counters` whose latest hits are not in the metrics yet."""
        self._connections_end = False

    @property
    def keepalive(self) -> int | None:
        """The timeout that replies announce to clients that ask for it, in tenths of a second; None over UDP."""
        if self.protocol != "tcp":
            return None  # RFC 7828 §3.2.1
        return 0 if self._connections_end else min(MAX_KEEPALIVE, int(self.listener.timeouts.idle * 10))

    def announce_end(self) -> None:
        """Sets the timeout in the EDNS option TCP keepalive of replies to 0, so that clients close connections."""
        self._connections_end = True

    def serve(self, listener: Listener) -> None:
        """Uses the plugin chains of `listener` from now on, and drops all stored replies of the earlier chains."""
        self.listener = listener
        self._set_properties()
        self.table.clear()
        self.fast_path_counters = {}
        self.metrics.release_routes()

    def _set_properties(self) -> None:
        listener = self.listener
        self.limited = listener.limiter is not None and self.protocol == "udp"
        self.uniform = listener.classes is None and not listener.observed and not self.limited

    # -- without the chain

    def lookup(self, packet: bytes, client: Client, started: float) -> bytes:
        """Returns the reply to a packet that can be answered without the plugin chain, else empty octets: then call
        `answer`.

        `started` is the time on `perf_counter` when the packet was read from its socket.
        """
        if len(packet) > MAX_KEY:
            return b""
        wire = self.lookup_entry(packet, client, started) or self._lookup_shared_negative(packet, started)
        if wire or not hop_options.may_have_options(packet):
            return wire
        return self.lookup_stripped(packet, client, started)

    def _lookup_shared_negative(self, packet: bytes, started: float) -> bytes:
        if self.listener.classes is not None:
            return b""
        negative = self.lookup_negative(packet[2:])
        if not negative:
            return b""
        self.durations.observe(perf_counter() - started, 1)
        return packet[:2] + negative

    def lookup_stripped(self, packet: bytes, client: Client, started: float) -> bytes:
        """Returns the reply to a packet with EDNS options such as COOKIE, without calling the plugin chain.

        Returns empty octets if the packet has no such options, or if only the plugin chain can answer it. Call it for
        packets for which `hop_options.may_have_options` is True.
        """
        stripped = hop_options.strip(packet)
        if stripped is None:
            return b""
        bare = stripped.packet
        wire = self.lookup_entry(bare, client, started) or self._lookup_shared_negative(bare, started)
        return self.with_hop_options(wire, stripped.options, client, self._limit(stripped)) if wire else b""

    def _limit(self, stripped: hop_options.Stripped) -> int:
        """Returns the length in octets that a reply to a query with EDNS may have."""
        if self.protocol == "tcp":
            return MAX_MESSAGE
        packet, end = stripped.packet, stripped.question_end
        route = self.listener.find(packet[12 : end - 4].lower(), int.from_bytes(packet[end - 4 : end - 2], "big"))
        return min(max(MIN_UDP, stripped.size), MAX_MESSAGE if route is None else route.udp_limit)

    def with_hop_options(self, wire: bytes, asked: HopByHop, client: Client, limit: int) -> bytes:
        """Returns the reply with this server's options for a client whose query has the options `asked`.

        If the reply would have more than `limit` octets, it is truncated.
        """
        options = b""
        if asked.cookie and self.cookies is not None:
            options += hop_options.option(OptionCode.COOKIE, self.cookies.reply(asked.cookie, client.address))
        if asked.keepalive and (timeout := self.keepalive) is not None:
            options += hop_options.option(OptionCode.TCP_KEEPALIVE, timeout.to_bytes(2, "big"))
        if asked.padding and self.listener.transport == "tls":
            options += hop_options.padding(len(wire) + len(options))
        return hop_options.with_options(wire, options, limit)

    def lookup_entry(self, packet: bytes, client: Client | None, started: float) -> bytes:
        """Returns the reply of the answer table to a packet, or empty octets if the table has none.

        `client` may be None only if all clients get the same replies (`uniform`). `started` is the time on
        `perf_counter` when the packet was read from its socket.
        """
        table = self.table
        key = packet[2:] if client is None or self.listener.classes is None else self.key(packet, client)
        now, entry = table.now(), table.current.get(key)
        if entry is None or entry.deadline <= now:
            entry = table.find(key, now)
            if entry is None:
                return b""
        wire = packet[:2] + table.use(entry)
        seconds = perf_counter() - started
        self.durations.observe(seconds, 1)
        if entry.observed is not None and client is not None:
            query, reply, route = entry.observed
            self.observe(
                route,
                query.changed(message_id=int.from_bytes(packet[:2], "big"), requestor=client),
                reply,
                len(wire),
                seconds,
            )
        return wire

    def lookup_negative(self, key: bytes) -> bytes:
        """Returns a shared negative answer without its message id, or empty octets.

        `key` is the packet without its message id. Call it only for listeners without client classes. The second query
        for the same name gets empty octets, so that the plugin chain makes its reply and the table stores it.
        """
        table = self.table
        found = table.negative.find(key)
        if found is None or table.seen_before(key):
            return b""
        found.hit_counter.count(table.dirty)
        return found.head + key[10 : len(key) - found.request_tail] + found.tail

    def lookup_limited(self, packet: bytes, client: Client, started: float) -> bytes | None:
        """Does the same as `lookup`, within the limits of the rate limiter (plugin *rrl*).

        Returns None if the query gets no reply. Call it only for a responder that is `limited`.
        """
        bare, asked, exempt = packet, None, False
        stripped = hop_options.strip(packet) if hop_options.may_have_options(packet) else None
        if stripped is not None:
            bare, asked = stripped.packet, stripped.options
            exempt = self._has_valid_cookie(asked, client)
        table, key = self.table, self.key(bare, client)
        entry, negative = table.find(key, table.now()), None
        if entry is not None:
            limited, flags = entry.limited, entry.wires[0][:2]
        elif self.listener.classes is None and (negative := table.negative.find(key)) is not None:
            if table.seen_before(key):
                return b""
            limited, flags = negative.limited, negative.head
        else:
            return b""
        if exempt and limited is not None and flags[0] & _TRUNCATED:
            return b""  # the stored reply may be shorter than a reply for this client
        if limited is not None and not exempt:
            if not self._admits(limited.limiter, client):
                return None
            verdict = self.verdict(limited, client)
            if verdict is not Verdict.SEND:
                request = accept(packet) if verdict is Verdict.TRUNCATE else None
                return self.truncated(request, asked, client, flags[1] & 15) if isinstance(request, Request) else None
        if negative is None:
            wire = self.lookup_entry(bare, client, started)
        else:
            negative.hit_counter.count(table.dirty)
            self.durations.observe(perf_counter() - started, 1)
            wire = bare[:2] + negative.head + bare[12 : len(bare) - negative.request_tail] + negative.tail
        return (
            wire if stripped is None else self.with_hop_options(wire, stripped.options, client, self._limit(stripped))
        )

    def _has_valid_cookie(self, asked: HopByHop | None, client: Client) -> bool:
        if asked is None or not asked.cookie or self.cookies is None:
            return False
        return self.cookies.is_valid(asked.cookie, client.address)

    def _admits(self, limiter: RateLimiter, client: Client) -> bool:
        """Returns False if the rate limiter drops a query of the client before it is answered."""
        try:
            return limiter.admits(client.address)
        except Exception as error:  # noqa: BLE001 - a plugin's object
            self.recover("the rate limiter", error)
            return True

    def verdict(self, limited: LimitedReply, client: Client) -> Verdict:
        """Debits the account of a reply, and returns what to do with the reply."""
        try:
            return limited.limiter.debit(client.address, limited.account)
        except Exception as error:  # noqa: BLE001 - a plugin's object
            self.recover("the rate limiter", error)
            return Verdict.SEND

    def truncated(self, request: Request, asked: HopByHop | None, client: Client, rcode: int) -> bytes:
        """Returns a reply without records that has TC set, so that the client can query again over TCP.

        A client that sent a cookie gets BADCOOKIE in place of TC, and a server cookie with which it can query again
        (RFC 7873 §5.2.3).
        """
        flags = request.flags & (RD | CD) | TC
        if asked is not None and asked.cookie and self.cookies is not None:
            flags, rcode = flags & ~TC, Rcode.BADCOOKIE
        route = self.listener.find(request.name.lower(), request.rtype) or DROPPED
        wire = encode_reply(request, Reply(rcode=rcode, flags=flags), MAX_MESSAGE, size=route.udp_size)
        return wire if asked is None else self.with_hop_options(wire, asked, client, MAX_MESSAGE)

    def _within_limits(self, wire: bytes, client: Client) -> bytes:
        """Returns `wire`, an error reply that was made before any plugin saw the query, or empty octets to drop it."""
        limiter = self.listener.limiter
        if not wire or not self.limited or limiter is None:
            return wire
        limited = LimitedReply(limiter, limiter.error_account)
        return b"" if self.verdict(limited, client) is Verdict.DROP else wire

    def key(self, packet: bytes, client: Client) -> bytes:
        """Returns the key of a packet in the answer table.

        Returns empty octets if a plugin failed to determine the client class. In that case, do not use the table.
        """
        classes = self.listener.classes
        if classes is None:
            return packet[2:]
        try:
            return classes.of(client.address) + packet[2:]
        except Exception as error:  # noqa: BLE001 - a plugin's hook
            self.recover("the client class of a query", error)
            return b""

    # -- with the chain

    def answer(
        self,
        packet: bytes,
        client: Client,
        send: Send,
        started: float,
        outlet: zone_stream.Outlet | None = None,
        upstream_reply: Reply | None = None,
    ) -> None:
        """Answers one packet through the plugin chain, at once or later.

        `started` is the time on `perf_counter` when the packet was read from its socket. If a reply has several
        messages, `outlet` sends all but the last one. Without `outlet`, a query that needs such a reply is refused.
        `upstream_reply` is the reply of an upstream, if the fast path has received one already.
        """
        request = accept(packet)
        if isinstance(request, Rejected):
            self.metrics.count_malformed(request.reason)
            send(self._within_limits(request.wire, client))
            return
        if not request.question:
            send(self._within_limits(self._cookie_reply(request, client), client))
            return
        asked = None
        if request.edns is not None and request.edns.options:
            asked = hop_by_hop(request.edns)
            if asked is not None:
                request.edns = without_hop_by_hop(request.edns)
        query = self._query(request, client, len(packet), started)
        query.upstream_reply = upstream_reply
        route = self.listener.route(query)
        if request.edns is not None and request.edns.version and (query.rclass == Class.IN or self.listener.any_class):
            send(self._within_limits(_bad_version(request, query, route), client))
            return
        limiter, exempt = self._limiter(query, route), False
        if limiter is not None:
            exempt = self._has_valid_cookie(asked, client)
            if not exempt and not self._admits(limiter, client):
                send(b"")
                return
        if asked is not None:
            stripped = hop_options.strip(packet)
            packet = b"" if stripped is None else stripped.packet
            if asked.cookie and self.cookies is not None:
                query.check_cookie = partial(self.cookies.is_valid, asked.cookie, client.address)
        if request.trailing:
            self.metrics.count_malformed(TRAILING)
        if request.trailing or len(packet) > MAX_KEY:
            packet = b""
        pending = PendingReply(
            self, packet, self.key(packet, client) if packet else b"", request, query, route, send,
            self.table.changes, outlet, asked, limiter, exempt,
        )  # fmt: skip
        try:
            answer = self.listener.answer(query, route)
        except Exception as error:  # noqa: BLE001 - a plugin failed: one query must not end the process
            pending.fail(error)
            return
        if isinstance(answer, Reply):
            pending.finish(answer)
        elif isinstance(answer, Deferred):
            self.in_flight.add(pending)
            answer.take(pending.completed, pending.failed)
        else:
            self.in_flight.start(pending.wait(answer))

    def _cookie_reply(self, request: Request, client: Client) -> bytes:
        """Returns the reply to a request for a server cookie, which has no question (RFC 7873 §5.4)."""
        assert request.edns is not None
        asked, own = hop_by_hop(request.edns), for_reply(request.edns, None)
        assert asked is not None
        assert own is not None
        wire = HEADER.pack(request.ident, QR | request.flags & (RD | CD), 0, 0, 0, 1) + opt_to_wire(own)
        return self.with_hop_options(wire, asked, client, MAX_MESSAGE)

    def _limiter(self, query: Query, route: Route) -> RateLimiter | None:
        """Returns the rate limiter for replies to a query, or None if their rate is not limited."""
        if not self.limited:
            return None
        if route is DROPPED:
            return self.listener.limiter
        return route.limiter if route.limiter is not None and route.limiter.covers(query.key) else None

    def observe(self, route: Route, query: Query, reply: Reply, size: int, seconds: float) -> None:
        """Calls the hook `observe` of the plugins that answered a query, with the query and its reply.

        `size` is the size of the reply in octets; `seconds` is how long it took to make.
        """
        for observe in route.observers:
            try:
                observe(query, reply, size, seconds)
            except Exception as error:  # noqa: BLE001 - a plugin's hook
                self.recover("an observer of replies", error)

    def recover(self, what: str, error: BaseException) -> None:
        """Logs and counts the exception `error` of a plugin; `what` says for the log which work failed."""
        self._hooks.failed(error, f"{what} of {self.listener.server}")

    def _query(self, request: Request, client: Client, size: int, started: float) -> Query:
        name = request.name
        return Query(
            name, name.lower(), request.rtype, request.rclass, request.flags, request.edns, client, self.listener.ask,
            message_id=request.ident, size=size, started=started, listener=self.listener.server, serial=request.serial,
        )  # fmt: skip


class PendingReply(msgspec.Struct, gc=False, eq=False):
    """One query that the plugin chain answers.

    `changes` is the number of changes that were applied to the answer table before the query came. If more have been
    applied when the reply arrives, the reply may be out of date, and is not stored.

    `packet` is the query without EDNS options between client and server. `packet` and `key` are empty if the reply
    cannot be used again. `asked` are the EDNS options between client and server, or None if the query has none.
    `limiter` limits the rate of the reply, or is None; `exempt` is True if the limits do not apply to the client,
    because it has a valid cookie.
    """

    responder: Responder
    packet: bytes
    key: bytes
    request: Request
    query: Query
    route: Route
    send: Send
    changes: int
    outlet: zone_stream.Outlet | None = None
    asked: HopByHop | None = None
    limiter: RateLimiter | None = None
    exempt: bool = False

    def completed(self, reply: Reply) -> None:
        """Sends the reply. Called when a plugin has returned a `Deferred` and its reply has arrived."""
        self.responder.in_flight.discard(self)
        self.finish(reply)

    def failed(self, error: Exception) -> None:
        """Called when a `Deferred` that a plugin returned ends with an exception. Answers SERVFAIL."""
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
        """Sends, counts and stores the reply for `finish`.

        Raises exceptions only before the reply is sent; later exceptions are logged.
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
        limit = MAX_MESSAGE if responder.protocol == "tcp" else udp_limit(request.edns)
        if self.limiter is not None and not self.exempt:
            limit = min(limit, self._amplified)
        store = (
            reply.lifetime > NOT_REUSABLE
            and reply.scope <= (CacheScope.SHARED if responder.listener.classes is None else CacheScope.CLIENT_CLASS)
            and responder.table.changes == self.changes
            and self.key != b""
            and responder.table.seen_before(self.key)
        )
        if reply.rotate is None:
            wires: tuple[bytes, ...] = (
                encode_reply(request, reply, limit, responder.listener.echoed, self.route.udp_size),
            )
        else:
            wires = self._rotations(reply.rotate(reply, _random), limit, store=store)
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
            increments = self._count(reply, len(wire), sent=verdict is Verdict.SEND)
            if store:
                self._store(reply, wires, increments, limited)
            elif reply.rcode == Rcode.NXDOMAIN and reply.lifetime == UNTIL_CHANGED and not self.exempt:
                self._note_negative(wires[0], increments, limited)
        except Exception as error:  # noqa: BLE001 - the client has its reply
            responder.recover("what follows a reply", error)

    @property
    def _amplified(self) -> int:
        """The length in octets that a reply may have for a client that has not proved its address."""
        return MAX_AMPLIFICATION * (len(self.packet) or self.query.size)

    def _shortened(self, wires: tuple[bytes, ...], reply: Reply, limit: int) -> tuple[tuple[bytes, ...], Reply]:
        """Returns the encoded reply and the Reply object. They have at most `limit` octets, even if the OPT record is
        long.

        Counts a reply that is truncated because of its length in comparison with the query.
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
        """Returns the encoded reply with its records in a random order. With `store`, returns it in several orders."""
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
        """Sends a reply of several messages, and counts it as one reply."""
        size = await zone_stream.send(
            self.request, reply, outlet, self.send, self.responder.listener.echoed, self.route.udp_size
        )
        try:
            self._count(reply, size)
        except Exception as error:  # noqa: BLE001 - the client has its reply
            self.responder.recover("what follows a reply", error)

    def _count(self, reply: Reply, size: int, *, sent: bool = True) -> tuple[Increment, ...]:
        """Counts a reply of `size` octets in the metrics, and calls the hook `observe` of the block's plugins.

        Does neither for a reply that was not `sent`.

        Returns the increments that each further use of the reply from the answer table adds to the metrics.
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
        """Stores a negative reply, if it may be shared, for all nonexistent names with the same closest encloser.

        The reply is not stored if the cluster has changed since the query came.
        """
        responder, route, query = self.responder, self.route, self.query
        if route.closest_encloser is None or responder.listener.classes is not None or not self.packet:
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
        now = table.now()
        ends = (
            UNTIL_CHANGED if reply.lifetime == UNTIL_CHANGED else now + reply.lifetime
        )  # nearly all entries share this float object
        if any(record.rtype == Type.SOA for record in reply.authority):
            ends = min(ends, now + NEGATIVE_LIFETIME)
        hit_counter = self.responder.metrics.hit_counter(increments, self.route)
        entry = Entry(self.key, tuple([wire[2:] for wire in wires]), ends, reply.dependencies, hit_counter)
        if reply.next_second < reply.lifetime:
            entry.deadline = now + reply.next_second
            entry.countdown = Countdown(tuple(tuple(at - 2 for at in ttl_offsets(wire)) for wire in wires), ends)
        entry.limited = limited
        if self.route.observers:
            entry.observed = (self.query, reply, self.route)
        table.put(entry)


def variants(wire: bytes, widest: int) -> int:
    """Returns the number of record orders in which to encode a reply, so that each record comes first equally often.

    `wire` is the reply in one of the orders; `widest` is the greatest useful number of orders. A truncated reply gets
    more orders, if they are needed to include every record in one of them.
    """
    count = ROTATIONS
    if wire[2] & _TRUNCATED:
        shown = max(1, int.from_bytes(wire[6:8], "big"))
        count = min(MAX_ROTATIONS, max(ROTATIONS, -(-widest // shown)))
    return max(1, min(widest, count, MAX_ROTATED_OCTETS // len(wire)))


def _bad_version(request: Request, query: Query, route: Route) -> bytes:
    """Returns a BADVERS reply, with the EDNS version that this server supports (RFC 6891 §6.1.3)."""
    reply = Reply(rcode=Rcode.BADVERS, flags=query.reply_flags)
    return encode_reply(request, reply, MAX_MESSAGE, size=route.udp_size)


def _has_other_class(reply: Reply, rclass: int) -> bool:
    """Returns True if a record of the reply has another class than `rclass`."""
    return any(
        record.rclass != rclass for section in (reply.answer, reply.authority, reply.additional) for record in section
    )
