"""Answers packets without the plugin chain: from the answer table, and from shared negative answers.

- The answer table serves every listener.
- Shared negative answers (`negative_answers`) serve listeners without client classes.
- The cold path (`cold_path`) and the fast path (`fast_path`) serve responders whose clients all get the same replies
  (`uniform`).
- The EDNS options COOKIE, TCP keepalive and PADDING are hop-by-hop (`wire.hop_options`): they are removed from queries,
  and appended to each reply when it is sent (RFC 7873, RFC 7828, RFC 7830).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Final

from svcdns.chain.kept_routes import NONE_KEPT, KeptRoutes
from svcdns.chain.routing import DROPPED, Listener, Route
from svcdns.corefile.transports import ENCRYPTED
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.rate_limit import LimitedReply, RateLimiter, Verdict
from svcdns.plugin_api.reply import Reply
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.cold_path import ColdAnswers
from svcdns.serving.cookies import Cookies
from svcdns.serving.in_flight import InFlight
from svcdns.serving.kept_replies import stays
from svcdns.serving.metrics import Durations, HitCounter, QueryMetrics
from svcdns.serving.sampling import Lookup, Sampling, sampled
from svcdns.wire import hop_options
from svcdns.wire.codes import CD, RD, TC, OptionCode, Rcode
from svcdns.wire.edns import HopByHop
from svcdns.wire.message import MAX_MESSAGE, MIN_UDP, encode_reply
from svcdns.wire.names import ROOT
from svcdns.wire.request import Request, accept, read_query_name

MAX_KEY: Final = 4096
"""The most octets of a query whose reply is stored. It takes long to look up a longer query in the answer table."""
MAX_KEEPALIVE: Final = 0xFFFF
"""The longest timeout that the option TCP keepalive can announce, in tenths of a second (RFC 7828 §3.1)."""
_TRUNCATED: Final = TC >> 8
_IN: Final = b"\0\1"


class StoredReplies:
    """The part of a responder that answers packets without the plugin chain."""

    def __init__(
        self,
        listener: Listener,
        table: AnswerTable,
        metrics: QueryMetrics,
        protocol: str,
        in_flight: InFlight,
        cookies: Cookies | None = None,
    ) -> None:
        """`protocol` is `udp` or `tcp`. `metrics` are those of this protocol. `in_flight` is that of the worker.

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
        self.datagrams = False
        """True if a query and its reply are one datagram each, so that the size of replies is limited."""
        self.limited = False
        """True if a plugin limits the rate of replies: then call `lookup_limited` in place of `lookup`."""
        self.uniform = False
        """True if all clients get the same replies, and no plugin needs query objects or limits the rate of replies.

        False for a listener with the PROXY protocol, whose packets have a header.
        """
        self.only_route: Route | None = None
        """The route of all queries, or None if the listener has several zones."""
        self.observes_packets = False
        """True if `observe_packet` must be called after each reply that is made without the plugin chain."""
        self.sampling: Sampling | None = None
        """Counts the queries if some of them are traced; otherwise None."""
        self.is_plain = False
        """True if `uniform`, and neither `observes_packets` nor `sampling` is set."""
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
        """Returns the idle timeout for the EDNS option TCP keepalive, in tenths of a second. Returns None over UDP."""
        if self.protocol != "tcp" or self.listener.transport in ENCRYPTED:
            return None  # RFC 7828 §3.2.1
        return 0 if self._connections_end else min(MAX_KEEPALIVE, int(self.listener.timeouts.idle * 10))

    def announce_end(self) -> None:
        """Sets the timeout in the EDNS option TCP keepalive of replies to 0, so that clients close their
        connections.
        """
        self._connections_end = True

    def serve(self, listener: Listener, kept: KeptRoutes = NONE_KEPT) -> None:
        """Uses the plugin chains of `listener` from this call on.

        Drops all stored replies, except those of the routes in `kept`.
        """
        self.listener = listener
        self._set_properties()
        if kept.by_id:
            self.table.keep(None if kept.all_stay else partial(stays, listener))
        else:
            self.table.clear()
        self.fast_path_counters = {}
        self.metrics.replace_routes(kept.by_id)

    def _set_properties(self) -> None:
        listener = self.listener
        self.datagrams = self.protocol == "udp" and listener.transport == "dns"
        self.limited = listener.limiter is not None and self.datagrams
        self.uniform = (
            listener.classes is None and not listener.observed and not self.limited and listener.proxy is None
        )
        self.only_route = listener.routes.get(ROOT) if len(listener.routes) == 1 else None
        self.observes_packets = self.uniform and listener.packets_observed
        self._taps_objects = not self.observes_packets and any(route.taps for route in listener.all_routes)
        """True if taps get the packets of stored replies directly, because taps need the whole packets."""
        self._cold = ColdAnswers(listener, self.table, self.metrics, self.lookup_negative, udp=self.datagrams)
        self.lookup_new = self._lookup_cold if self.uniform and self._cold else self.lookup_negative
        """Returns the reply to a packet that is not in the answer table, or empty octets, as `lookup_negative` does."""
        self.sampling = Sampling(listener) if listener.sampled else None
        self.is_plain = self.uniform and not (self.observes_packets or listener.sampled)
        self.lookup: Lookup[bytes] = self._lookup
        self.lookup_limited: Lookup[bytes | None] = self._lookup_limited
        if self.sampling is not None:
            self.lookup = sampled(self.sampling, self._lookup)
            self.lookup_limited = sampled(self.sampling, self._lookup_limited)

    def _lookup(self, packet: bytes, client: Client, started: float) -> bytes:
        """Returns the reply to a packet, or empty octets if only the plugin chain can answer it.

        `started` is the time on `perf_counter` when the packet was read from its socket.
        """
        if len(packet) > MAX_KEY:
            return b""
        wire = self.lookup_entry(packet, client, started)
        if wire:
            return wire
        wire = self._lookup_new(packet, started, self.lookup_new)
        if wire:
            if self.observes_packets:
                self.observe_packet(packet, wire, client, perf_counter() - started)
            return wire
        return self.lookup_stripped(packet, client, started) if hop_options.may_have_options(packet) else b""

    def lookup_unobserved(self, packet: bytes, started: float) -> bytes:
        """Returns the reply to a packet without hop-by-hop EDNS options, or empty octets.

        Call it only for a responder that `observes_packets`, and call `observe_packet` afterwards.
        """
        return self.lookup_entry(packet, None, started) or self._lookup_new(packet, started, self.lookup_new)

    def _lookup_new(self, packet: bytes, started: float, lookup: Callable[[bytes], bytes]) -> bytes:
        if self.listener.classes is not None:
            return b""
        wire = lookup(packet[2:])
        if not wire:
            return b""
        self.durations.observe(perf_counter() - started, 1)
        return packet[:2] + wire

    def _lookup_cold(self, key: bytes) -> bytes:
        """Returns the reply of the cold path, a shared negative answer, or empty octets.

        `key` is the packet without its message id; the result has none either. An entry in the table's previous
        generation is returned first.
        """
        table = self.table
        if table.previous:
            entry = table.find(key, table.now())
            if entry is not None:
                return table.use(entry)
        try:
            wire = self._cold.answer(key)
        except Exception as error:  # noqa: BLE001 - a plugin's functions
            self.recover("the cold path", error)
            return b""
        return self.lookup_negative(key) if wire is None else wire

    def lookup_stripped(self, packet: bytes, client: Client, started: float) -> bytes:
        """Returns the reply to a packet with EDNS options such as COOKIE, without calling the plugin chain.

        Returns empty octets if the packet has no such options, or if only the plugin chain can answer it. Call it only
        if `hop_options.may_have_options` is True for the packet.
        """
        stripped = hop_options.strip(packet)
        if stripped is None or self._taps_objects:
            return b""
        bare = stripped.packet
        known = None if self.observes_packets else client
        wire = self.lookup_entry(bare, known, started) or self._lookup_new(bare, started, self.lookup_negative)
        if not wire:
            return b""
        wire = self.with_hop_options(wire, stripped.options, client, self._limit(stripped))
        if self.observes_packets:
            self.observe_packet(packet, wire, client, perf_counter() - started)
        return wire

    def _limit(self, stripped: hop_options.Stripped) -> int:
        """Returns the largest length in octets of a reply to a query with EDNS."""
        if not self.datagrams:
            return MAX_MESSAGE
        packet, end = stripped.packet, stripped.question_end
        route = self.listener.find(packet[12 : end - 4].lower(), int.from_bytes(packet[end - 4 : end - 2], "big"))
        return min(max(MIN_UDP, stripped.size), MAX_MESSAGE if route is None else route.udp_limit)

    def with_hop_options(self, wire: bytes, asked: HopByHop, client: Client, limit: int) -> bytes:
        """Returns the reply with this server's EDNS options for the client. `asked` are the options in the query.

        If the reply would have more than `limit` octets, it is truncated.
        """
        options = b""
        if asked.cookie and self.cookies is not None:
            options += hop_options.option(OptionCode.COOKIE, self.cookies.reply(asked.cookie, client.address))
        if asked.keepalive and (timeout := self.keepalive) is not None:
            options += hop_options.option(OptionCode.TCP_KEEPALIVE, timeout.to_bytes(2, "big"))
        if asked.padding and self.listener.transport != "dns":
            options += hop_options.padding(len(wire) + len(options))
        return hop_options.with_options(wire, options, limit)

    def lookup_entry(self, packet: bytes, client: Client | None, started: float) -> bytes:
        """Returns the reply from the answer table, or empty octets if the table has none.

        `client` may be None if all clients get the same replies (`uniform`). In that case, no observer is called.
        `started` is the time on `perf_counter` when the packet was read from its socket.
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
        details = entry.details
        if client is None:
            return wire
        if self.observes_packets:
            self.observe_packet(packet, wire, client, seconds)
        elif details is not None and details.observed is not None:
            stored, reply, route = details.observed
            query = stored.changed(message_id=int.from_bytes(packet[:2], "big"), requestor=client)
            if query.collected is not None:
                query.collected = query.collected.of(query)
            for tap in route.taps:
                tap.exchanged(packet, wire, client, started, query)
            self.observe(route, query, reply, len(wire), seconds)
        return wire

    def lookup_negative(self, key: bytes) -> bytes:
        """Returns a shared negative answer without its message id, or empty octets.

        `key` is the packet without its message id. Call it only for listeners without client classes. The second query
        for a name gets empty octets: the plugin chain then answers, and the answer table stores the reply.
        """
        table = self.table
        found = table.negative.find(key)
        if found is None or table.seen_before(key):
            return b""
        found.hit_counter.count(table.dirty)
        return found.head + key[10 : len(key) - found.request_tail] + found.tail

    def _lookup_limited(self, packet: bytes, client: Client, started: float) -> bytes | None:
        """Returns the same as `lookup`, within the limits of the rate limiter (plugin *rrl*).

        Returns None if the query gets no reply. Call it only if the responder is `limited`.
        """
        bare, asked, exempt = packet, None, False
        stripped = hop_options.strip(packet) if hop_options.may_have_options(packet) else None
        if stripped is not None:
            bare, asked = stripped.packet, stripped.options
            exempt = self._has_valid_cookie(asked, client)
        table, key = self.table, self.key(bare, client)
        entry, negative = table.find(key, table.now()), None
        if entry is not None:
            limited = None if entry.details is None else entry.details.limited
            flags = entry.wires[0][:2]
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
        """Returns False if the rate limiter drops the client's query before it is answered."""
        try:
            return limiter.admits(client.address)
        except Exception as error:  # noqa: BLE001 - a plugin's object
            self.recover("the rate limiter", error)
            return True

    def verdict(self, limited: LimitedReply, client: Client) -> Verdict:
        """Counts a reply against the rate limit of its client, and returns what to do with the reply."""
        try:
            return limited.limiter.debit(client.address, limited.account)
        except Exception as error:  # noqa: BLE001 - a plugin's object
            self.recover("the rate limiter", error)
            return Verdict.SEND

    def truncated(self, request: Request, asked: HopByHop | None, client: Client, rcode: int) -> bytes:
        """Returns a reply without records that has TC set: the client can query again over TCP.

        A client that sent a cookie gets BADCOOKIE and a server cookie instead of TC (RFC 7873 §5.2.3).
        """
        flags = request.flags & (RD | CD) | TC
        if asked is not None and asked.cookie and self.cookies is not None:
            flags, rcode = flags & ~TC, Rcode.BADCOOKIE
        route = self.listener.find(request.name.lower(), request.rtype) or DROPPED
        wire = encode_reply(request, Reply(rcode=rcode, flags=flags), MAX_MESSAGE, size=route.udp_size)
        return wire if asked is None else self.with_hop_options(wire, asked, client, MAX_MESSAGE)

    def key(self, packet: bytes, client: Client) -> bytes:
        """Returns the key of a packet in the answer table.

        Returns empty octets if a plugin failed to determine the client class, or if the listener stores no replies. In
        that case, do not use the table.
        """
        classes = self.listener.classes
        if classes is None:
            return packet[2:]
        if not self.listener.stores:
            return b""
        try:
            return classes.of(client.address) + packet[2:]
        except Exception as error:  # noqa: BLE001 - a plugin's hook
            self.recover("the client class of a query", error)
            return b""

    def observe_packet(self, packet: bytes, wire: bytes, client: Client, seconds: float) -> None:
        """Calls the packet observers of the block that answered a query without the plugin chain.

        `wire` is the reply; `seconds` is the time that it took to make.
        """
        name, end = read_query_name(packet)
        route = self.only_route or self.listener.find(name.lower(), int.from_bytes(packet[end : end + 2], "big"))
        if route is None or (packet[end + 2 : end + 4] != _IN and not route.any_class):
            return
        for observe in route.packet_observers or ():
            observe(packet, wire, client, seconds)
        for tap in route.taps:
            tap.exchanged(packet, wire, client, perf_counter() - seconds, None)

    def observe(self, route: Route, query: Query, reply: Reply, size: int, seconds: float) -> None:
        """Calls the hook `observe` of the plugins that answered a query.

        `size` is the size of the reply in octets; `seconds` is the time that it took to make.
        """
        for observe in route.observers:
            try:
                observe(query, reply, size, seconds)
            except Exception as error:  # noqa: BLE001 - a plugin's hook
                self.recover("an observer of replies", error)

    def recover(self, what: str, error: BaseException) -> None:
        """Logs and counts the exception `error` of a plugin. `what` describes the failed work in the log line."""
        self._hooks.failed(error, f"{what} of {self.listener.server}")
