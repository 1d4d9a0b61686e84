"""One exchange with the upstreams of a forward rule: from a query to the reply for everybody who waits for it.

Rules:

1. Each upstream is queried once before any is queried again.
2. The next upstream is queried when one fails, replies with a response code of `failover`, or is silent. Unless the
   policy is sequential, it is also queried when one is slower than usual; such extra queries have a bounded share
   (`HedgeBudget`).
3. The first valid reply ends the exchange.
4. Where no upstream is usable, one is queried all the same, for LAST_RESORT_TIMEOUT seconds, in a bounded number of
   exchanges at a time. Health checks show when an upstream replies again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from svcdns.plugin_api.fast_path import UpstreamReply
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.forward.upstream_group import MAX_QUERIES, UpstreamGroup
from svcdns.upstream.health import SILENCE
from svcdns.upstream.query import ExchangeError, UpstreamQuery
from svcdns.upstream.server import Attempt, Server
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, ExtendedError, Rcode
from svcdns.wire.message import Message
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import SimpleReply, scan

LAST_RESORT_TIMEOUT: Final = 1.0
"""Seconds that an upstream has where none is usable."""
NO_HEALTHY: Final = "no healthy proxies"

_FORWARDED_FLAGS: Final = AA | TC | RD | RA | AD | CD


ExchangeKey = tuple[bytes, int, int, int, Edns | None, bool, str]
"""Lowered name, type, class, flags, EDNS, over TCP or not, label of the upstream to avoid.

A plain tuple: one is made for each query.
"""


class Exchange:
    """A query under way. `completed` is called once, with the exchange, which has its reply then."""

    __slots__ = (
        "_attempts", "_avoid", "_completed", "_deadline", "_failed_attempts", "_failure", "_group", "_is_last_resort", "_last_reply",
        "_look_at", "_queries", "_query", "_reply", "_source", "_tcp", "_untried", "is_over", "key", "plain", "waiters",
    )  # fmt: skip

    def __init__(
        self,
        group: UpstreamGroup,
        query: UpstreamQuery,
        key: ExchangeKey,
        completed: Callable[[Exchange], None],
        *,
        tcp: bool,
        avoid: str = "",
    ) -> None:
        """Sends nothing before `start`, and nothing to the upstream labelled `avoid`."""
        self._group, self._query, self._completed, self._tcp, self._avoid = group, query, completed, tcp, avoid
        self.key = key
        self.waiters: list[tuple[str, Callable[[UpstreamReply], None]]] = []
        """The clients whose queries wait for the reply, each with the callback that takes it."""
        self.is_over = False
        self.plain: SimpleReply | None = None
        self._reply: Reply | None = None
        self._source = ""
        self._untried: list[Server] = []
        self._attempts: list[Attempt] = []
        self._failed_attempts = self._queries = 0
        self._failure: ExchangeError | None = None
        self._last_reply: Reply | None = None
        self._deadline = self._look_at = 0.0
        self._is_last_resort = False

    @property
    def reply(self) -> Reply:
        """The reply, after the exchange is over."""
        if self._reply is None:
            assert self.plain is not None
            self._reply = _reply(self._query.decode(self.plain.packet), self._source)
        return self._reply

    def start(self) -> bool:
        """Queries the first upstream. Returns false if there is none to query."""
        group = self._group
        now = group.clock()
        self._deadline = now + group.budget
        self._untried = self._servers()
        if not self._query_next(now):
            group.cells.broken()
            if group.unavailable:
                return False
            group.last_resorts += 1
            self._is_last_resort = True
            self._send(random.choice(self._servers()), now, LAST_RESORT_TIMEOUT)
        group.hedge_budget.add_exchange()
        return True

    def _servers(self) -> list[Server]:
        servers = self._group.in_policy_order(self._group.servers)
        return [server for server in servers if server.label != self._avoid] if self._avoid else servers

    def _next_usable(self) -> Server | None:
        while self._untried:
            if self._untried[0].health.usable:
                return self._untried[0]
            del self._untried[0]
        return None

    def _query_next(self, now: float) -> bool:
        """Queries the next usable upstream. Returns false if there is none, or no more attempts are allowed."""
        server, group = self._next_usable(), self._group
        spent = self._failed_attempts + len(self._attempts) >= group.max_attempts or self._queries >= MAX_QUERIES
        if server is None or spent or now >= self._deadline:
            return False
        del self._untried[0]
        self._send(server, now, group.rule.read_timeout)
        return True

    def _send(self, server: Server, now: float, timeout: float, *, tcp: bool = False) -> None:
        self._queries += 1
        attempt = Attempt(server, self._query, self._attempt_completed, now, min(timeout, self._deadline - now))
        self._attempts.append(attempt)
        attempt.start(tcp=self._tcp or tcp)
        if self._untried:
            self._hedge_at(now + (SILENCE if self._group.sequential else server.health.slow_after))

    def _hedge_at(self, when: float) -> None:
        self._look_at = when
        self._group.timer_wheel.at(when, self._hedge)

    def _hedge(self) -> None:
        """Queries the next upstream if the last one queried is silent or slow."""
        group, now = self._group, self._group.clock()
        if self.is_over or not self._attempts or now < self._look_at:
            return
        latest, server = self._attempts[-1], self._next_usable()
        if server is None:
            return
        if group.sequential:
            again_at = max(latest.started_at, latest.server.health.last_reply) + SILENCE
            silent = hedged = now >= again_at
        else:
            again_at = now + SILENCE
            silent = latest.silent
            hedged = silent or group.hedge_budget.spend()
        if not hedged:
            self._hedge_at(again_at)
        elif self._query_next(now):
            group.cells.hedged(server.label, "silent" if silent else "slow")

    def _attempt_completed(self, attempt: Attempt, outcome: bytes | ExchangeError) -> None:
        self._attempts.remove(attempt)
        if isinstance(outcome, ExchangeError):
            self._failed_attempts += 1
            self._failure = outcome
            self._continue()
            return
        query = self._query
        self.plain = scan(outcome, query.question_end, query.rtype)
        if self.plain is not None and self.plain.rcode in self._group.failover:
            self.plain = None
        if self.plain is not None:
            self._source = attempt.server.label
            self._finish()
        else:
            self._take_or_retry(attempt, query.decode(outcome))

    def _take_or_retry(self, attempt: Attempt, message: Message) -> None:
        """Handles a reply that is not a simple one: it may ask for another upstream, or for TCP."""
        reply = _reply(message, attempt.server.label)
        if reply.rcode in self._group.failover:
            self._last_reply = reply
            self._continue()
        elif (
            message.flags & TC
            and self._group.rule.prefer_udp
            and not (self._tcp or attempt.tcp)
            and self._queries < MAX_QUERIES
        ):
            self._send(attempt.server, self._group.clock(), self._group.rule.read_timeout, tcp=True)
        else:
            self._finish(reply)

    def _continue(self) -> None:
        """Queries the next upstream after a failed attempt, or ends with the best outcome so far.

        Where no attempt brought a reply, the upstreams are queried in a second round.
        """
        if self._query_next(self._group.clock()) or self._attempts:
            return
        if self._last_reply is not None:
            self._finish(self._last_reply)
            return
        self._untried = self._servers()
        if not self._query_next(self._group.clock()):
            self._finish(servfail(self._failure))

    def _finish(self, reply: Reply | None = None) -> None:
        """Ends the exchange with this reply, or with the simple one that is set."""
        self.is_over, self._reply = True, reply
        if self._is_last_resort:
            self._group.last_resorts -= 1
        for attempt in self._attempts:
            attempt.abandon()
        self._attempts.clear()
        self._completed(self)


def servfail(failure: ExchangeError | None) -> Reply:
    """SERVFAIL with the last failure, for the log. Clients with EDNS get an extended error (RFC 8914 §4.23, §4.24)."""
    code = ExtendedError.NO_REACHABLE_AUTHORITY if failure is None or failure.timed_out else ExtendedError.NETWORK_ERROR
    return Reply(
        rcode=Rcode.SERVFAIL, extended=code, has_message=False, error=NO_HEALTHY if failure is None else str(failure)
    )


def _reply(message: Message, source: str) -> Reply:
    return Reply(
        rcode=message.flags & 15,
        flags=message.flags & _FORWARDED_FLAGS,
        answer=message.answer,
        authority=message.authority,
        additional=message.additional,
        edns=message.edns,
        source=source,
    )
