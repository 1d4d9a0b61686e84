"""Answers packets through the plugin chain.

There is one `Responder` for each listener, protocol and address family. A `Responder` has no access to sockets. The
base class in `stored_replies` answers packets without the chain. `pending_reply` sends and stores the chain's replies.
An exception of a plugin's hook is logged and counted in `coredns_panics_total`.
"""

from __future__ import annotations

import struct
from collections.abc import Coroutine
from functools import partial
from time import perf_counter
from typing import Final

from svcdns.chain.routing import DROPPED, Route
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.rate_limit import LimitedReply, RateLimiter, Verdict
from svcdns.plugin_api.reply import Reply
from svcdns.serving import signed_queries, zone_stream
from svcdns.serving.metrics import TRAILING
from svcdns.serving.pending_reply import PendingReply, Send
from svcdns.serving.signed_queries import SignedQuery
from svcdns.serving.stored_replies import MAX_KEY, StoredReplies
from svcdns.serving.tapping import Tapping
from svcdns.wire import hop_options
from svcdns.wire.codes import AA, CD, OPCODE_MASK, QR, RD, Class, Opcode, Rcode
from svcdns.wire.edns import HopByHop, for_reply, hop_by_hop, without_hop_by_hop
from svcdns.wire.edns import to_wire as opt_to_wire
from svcdns.wire.errors import FormError
from svcdns.wire.message import MAX_MESSAGE, encode_reply, udp_limit
from svcdns.wire.request import HEADER, Rejected, Request, accept, read_query_name

_NO_ID: Final = b"\0\0"
_NO_CLIENT: Final = Client("", 0, "", 0, "udp")


def _discard(_wire: bytes) -> None:
    return None


class Responder(StoredReplies):
    """Answers the packets of one listener over one protocol and address family."""

    def answer(
        self,
        packet: bytes,
        client: Client,
        send: Send,
        started: float,
        outlet: zone_stream.Outlet | None = None,
        upstream_reply: Reply | None = None,
    ) -> None:
        """Answers one packet through the plugin chain, before or after this call returns.

        `started` is the time on `perf_counter` when the packet was read from its socket. If a reply has several
        messages, `outlet` sends all but the last one. Without `outlet`, a query for such a reply is refused.
        `upstream_reply` is the reply that the fast path has received from an upstream, if any.
        """
        size, signed, received = len(packet), None, packet
        if self.listener.tsig_secrets:
            packet, signed = signed_queries.split(packet, self.listener)
        request = accept(packet) if not isinstance(signed, Rejected) else signed
        if isinstance(request, Rejected):
            self._reject(request, packet, signed, client, send)
            return
        if not request.question:
            send(self._within_limits(self._cookie_reply(request, client), client))
            return
        asked = None
        if request.edns is not None and request.edns.options:
            asked = hop_by_hop(request.edns)
            if asked is not None:
                request.edns = without_hop_by_hop(request.edns)
        query = self._query(request, client, size, started)
        query.upstream_reply = upstream_reply
        route = self.listener.route(query)
        if request.edns is not None and request.edns.version and (query.rclass == Class.IN or self.listener.any_class):
            send(self._within_limits(_bad_version(request, query, route), client))
            return
        if route.taps:
            send, outlet = Tapping(route, query, received, started).begin(send, outlet)
        if isinstance(signed, SignedQuery) and route.tsig is not None and route.tsig.covers(query.key):
            query.tsig_error, packet = signed.error, b""
            limit = MAX_MESSAGE if self.protocol == "tcp" else min(route.udp_limit, udp_limit(request.edns))
            signer = signed.signer(limit)
            send, outlet = signed_queries.signing(send, signer), signed_queries.signing_outlet(outlet, signer)
        limiter, exempt = self._limiter(query, route), False
        if limiter is not None:
            exempt = self._has_valid_cookie(asked, client)
            if not exempt and not self._admits(limiter, client):
                send(b"")
                return
        if asked is not None:
            packet = self._without_options(packet, asked, query)
        if request.trailing:
            self.metrics.count_malformed(TRAILING)
        if request.trailing or len(packet) > MAX_KEY:
            packet = b""
        pending = PendingReply(
            self, packet, self.key(packet, client) if packet else b"", request, query, route, send,
            self.table.changes, self.listener.self_queries, outlet, asked, limiter, exempt,
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

    def make_stored(self, key: bytes) -> bool:
        """Makes and stores the reply to a query that no client has sent yet. Returns whether the reply is stored.

        `key` is the query without its message id. Nothing is counted or traced. Call it only before the worker reads
        its sockets.
        """
        table, metrics = self.table, self.metrics
        if not self.uniform or self.sampling is not None or len(key) > MAX_KEY:
            return False
        if key in table.current:
            return True
        table.seen_before(key)
        with metrics.counters.unchanged():
            try:
                if not self._cold.answer(key):
                    self._answer_unsent(_NO_ID + key)
            except Exception as error:  # noqa: BLE001 - a plugin failed: its reply is made when a client sends the query
                self.recover("a reply that no client has asked for", error)
        for hit_counter in (*table.dirty, *metrics.dirty_cold):
            hit_counter.hits = hit_counter.flushed
        table.dirty.clear()
        metrics.dirty_cold.clear()
        return key in table.current

    def _answer_unsent(self, packet: bytes) -> None:
        """Makes and stores the reply of the plugin chain to a query, unless the reply is deferred."""
        request = accept(packet)
        if isinstance(request, Rejected) or not request.question or request.trailing:
            return
        if request.edns is not None and (request.edns.options or request.edns.version):
            return
        query = self._query(request, _NO_CLIENT, len(packet), perf_counter())
        route = self.listener.route(query)
        pending = PendingReply(
            self, packet, packet[2:], request, query, route, _discard, self.table.changes, self.listener.self_queries,
            is_early=True,
        )  # fmt: skip
        answer = self.listener.answer(query, route)
        if isinstance(answer, Reply):
            pending.finish(answer)
        elif isinstance(answer, Coroutine):
            answer.close()

    def _without_options(self, packet: bytes, asked: HopByHop, query: Query) -> bytes:
        """Returns the packet without the hop-by-hop EDNS options `asked`. Lets plugins check the cookie of `query`."""
        if asked.cookie and self.cookies is not None:
            query.check_cookie = partial(self.cookies.is_valid, asked.cookie, query.requestor.address)
        stripped = hop_options.strip(packet) if packet else None
        return b"" if stripped is None else stripped.packet

    def _reject(
        self, rejected: Rejected, packet: bytes, signed: SignedQuery | Rejected | None, client: Client, send: Send
    ) -> None:
        """Sends the reply to a message that is no query, or that cannot be served."""
        wire = self._notified(packet, client) if self.listener.notified else b""
        if rejected.reason == "opcode" and self.listener.tsig_secrets and not isinstance(signed, Rejected):
            wire = signed_queries.answer_other_opcode(packet, wire or rejected.wire, signed, self.listener)
        elif not wire:
            self.metrics.count_malformed(rejected.reason)
            wire = self._within_limits(rejected.wire, client)
        send(wire)

    def _notified(self, packet: bytes, client: Client) -> bytes:
        """Returns the reply to a NOTIFY message that a plugin accepts, otherwise empty octets (RFC 1996 §4.7)."""
        ident, flags, questions = struct.unpack_from("!HHH", packet.ljust(6, b"\0"))
        if flags & QR or flags >> 11 & 15 != Opcode.NOTIFY or questions != 1:
            return b""
        try:
            name, at = read_query_name(packet)
        except FormError:
            return b""
        zone, address = name.lower(), client.address.partition("%")[0]
        if len(packet) < at + 4 or not any(notified(zone, address) for notified in self.listener.notified):
            return b""
        return HEADER.pack(ident, QR | AA | flags & OPCODE_MASK, 1, 0, 0, 0) + packet[12 : at + 4]

    def _within_limits(self, wire: bytes, client: Client) -> bytes:
        """Returns the error reply `wire` if the rate limiter permits it, otherwise empty octets."""
        limiter = self.listener.limiter
        if not wire or not self.limited or limiter is None:
            return wire
        limited = LimitedReply(limiter, limiter.error_account)
        return b"" if self.verdict(limited, client) is Verdict.DROP else wire

    def _cookie_reply(self, request: Request, client: Client) -> bytes:
        """Returns the reply to a cookie request without a question (RFC 7873 §5.4)."""
        assert request.edns is not None
        asked, own = hop_by_hop(request.edns), for_reply(request.edns, None)
        assert asked is not None
        assert own is not None
        wire = HEADER.pack(request.ident, QR | request.flags & (RD | CD), 0, 0, 0, 1) + opt_to_wire(own)
        return self.with_hop_options(wire, asked, client, MAX_MESSAGE)

    def _limiter(self, query: Query, route: Route) -> RateLimiter | None:
        """Returns the rate limiter for replies to a query, or None if the rate is not limited."""
        if not self.limited:
            return None
        if route is DROPPED:
            return self.listener.limiter
        return route.limiter if route.limiter is not None and route.limiter.covers(query.key) else None

    def _query(self, request: Request, client: Client, size: int, started: float) -> Query:
        name = request.name
        return Query(
            name, name.lower(), request.rtype, request.rclass, request.flags, request.edns, client, self.listener.ask,
            message_id=request.ident, size=size, started=started, listener=self.listener.server, serial=request.serial,
        )  # fmt: skip


def _bad_version(request: Request, query: Query, route: Route) -> bytes:
    """Returns a BADVERS reply, with the EDNS version that this server supports (RFC 6891 §6.1.3)."""
    reply = Reply(rcode=Rcode.BADVERS, flags=query.reply_flags)
    return encode_reply(request, reply, MAX_MESSAGE, size=route.udp_size)
