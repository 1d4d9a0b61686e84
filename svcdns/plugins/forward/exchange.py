"""One exchange with the upstreams of a forward rule: from a query to the reply for all waiting clients.

Rules:

1. The next upstream is queried if an upstream fails, is silent, or replies with a code of the option `failover`. Unless
   the policy is sequential, it is also queried if an upstream is slow, within the limit of `HedgeBudget`.
2. Each upstream is queried once before any is queried again.
3. The first valid reply ends the exchange. Records that do not belong to the query are removed from it.
4. If an upstream sends only invalid packets over UDP, the query is repeated over TCP to this upstream.
5. If an upstream does not know EDNS, the query is repeated without the OPT record, if a plugin added it (RFC 6891 §7).
6. If every upstream is down, one of them is queried nevertheless, for at most LAST_RESORT_TIMEOUT seconds. The number
   of such exchanges is limited.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec

from svcdns.plugin_api.fast_path import UpstreamReply
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.forward.upstream_group import MAX_QUERIES, ORDINARY_QUERIES, UpstreamGroup
from svcdns.upstream.health import SILENCE
from svcdns.upstream.query import ExchangeError, Received, SpoofedError, UpstreamQuery, as_message
from svcdns.upstream.relevance import remove_unrelated_records
from svcdns.upstream.server import Attempt, Server
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, ExtendedError, Rcode
from svcdns.wire.edns import without_nsid
from svcdns.wire.message import Message
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import SimpleReply

LAST_RESORT_TIMEOUT: Final = 1.0
"""Seconds to wait for an upstream's reply if every upstream is down."""
NO_HEALTHY: Final = "no healthy proxies"
_WITHOUT_EDNS: Final = (Rcode.FORMERR, Rcode.NOTIMP)
"""The response codes of a server that does not know EDNS (RFC 6891 §7)."""

_FORWARDED_FLAGS: Final = AA | TC | RD | RA | AD | CD


ExchangeKey = tuple[bytes, int, int, int, Edns | None, bool, str, bool]
"""Lower-case name, type, class, flags, EDNS, whether over TCP, the label of the upstream to avoid, and whether a plugin
added the OPT record.

This is a plain tuple because one is made for each query.
"""


class Exchange(msgspec.Struct, eq=False):
    """One query to the upstreams of a rule, from its start to its reply.

    `start` sends the first query. When the exchange ends, it calls `_completed` with itself as the argument. The
    upstream with the label `_avoid` is not queried. `waiters` has the clients that wait for the reply, each with a
    callback that is called with the reply. `_liars` are the upstreams that sent packets that had to be dropped, and no
    valid reply.
    """

    _group: UpstreamGroup
    _query: UpstreamQuery
    key: ExchangeKey
    _completed: Callable[[Exchange], None]
    _tcp: bool = False
    _avoid: str = ""
    waiters: list[tuple[str, Callable[[UpstreamReply], None]]] = []
    is_over: bool = False
    plain: SimpleReply | None = None
    _reply: Reply | None = None
    _source: str = ""
    _untried: list[Server] = []
    _attempts: list[Attempt] = []
    _failed_attempts: int = 0
    _queries: int = 0
    _failure: ExchangeError | None = None
    _liars: tuple[Server, ...] = ()
    _last_reply: Reply | None = None
    _deadline: float = 0.0
    _look_at: float = 0.0
    _is_last_resort: bool = False

    @property
    def reply(self) -> Reply:
        """Returns the reply. Call it only after the exchange has ended."""
        if self._reply is None:
            assert self.plain is not None
            self._reply = _reply(as_message(self.plain), self._source)
        return self._reply

    def start(self) -> bool:
        """Queries the first upstream. Returns False if no upstream may be queried."""
        group = self._group
        now = group.clock()
        self._deadline = now + group.budget
        servers = group.servers
        if len(servers) == 1 and not self._avoid and servers[0].health.usable:
            self._send(servers[0], now, group.rule.read_timeout)  # as `_query_next` does, with fewer calls
            group.hedge_budget.add_exchange()
            return True
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
        servers = list(self._group.servers)
        if len(servers) > 1:
            servers = self._group.in_policy_order(servers)
        return [server for server in servers if server.label != self._avoid] if self._avoid else servers

    def _next_usable(self) -> Server | None:
        untried = self._untried
        while untried:
            if untried[0].health.usable:
                return untried[0]
            del untried[0]
        return None

    def _query_next(self, now: float) -> bool:
        """Queries the next usable upstream. Returns False if no upstream is usable, or if MAX_QUERIES have been
        sent.
        """
        server, group = self._next_usable(), self._group
        spent = self._failed_attempts + len(self._attempts) >= group.max_attempts or self._queries >= MAX_QUERIES
        if server is None or spent or now >= self._deadline:
            return False
        del self._untried[0]
        self._send(server, now, group.rule.read_timeout)
        return True

    def _send(self, server: Server, now: float, timeout: float, *, tcp: bool = False) -> None:
        self._queries += 1
        left = self._deadline - now
        attempt = Attempt(server, self._query, self._attempt_completed, now, timeout if timeout < left else left)
        self._attempts.append(attempt)
        attempt.start(tcp=self._tcp or tcp)
        if self._untried:
            self._hedge_at(now + (SILENCE if self._group.sequential else server.health.slow_after))

    def _hedge_at(self, when: float) -> None:
        self._look_at = when
        self._group.timer_wheel.at(when, self._hedge)

    def _hedge(self) -> None:
        """Queries the next upstream if the upstream that was queried last is silent or slow."""
        group, now = self._group, self._group.clock()
        if self.is_over or not self._attempts or now < self._look_at:
            return
        latest, server = self._attempts[-1], self._next_usable()
        if server is None:
            return
        if self._queries >= ORDINARY_QUERIES and not self._all_silent(now):
            self._hedge_at(now + SILENCE)
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

    def _all_silent(self, now: float) -> bool:
        """Returns True if every running attempt is at least SILENCE seconds old, and no upstream of these has sent
        anything.
        """
        return all(attempt.silent and attempt.started_at + SILENCE <= now for attempt in self._attempts)

    def _attempt_completed(self, attempt: Attempt, outcome: Received | ExchangeError) -> None:
        self._attempts.remove(attempt)
        if type(outcome) is SimpleReply and self._may_pass(outcome, attempt.server):
            self.plain, self._source = outcome, attempt.server.label
            self._finish()
        elif isinstance(outcome, ExchangeError):
            self._attempt_failed(attempt, outcome)
        else:
            self._take_or_retry(attempt, as_message(outcome))

    def _attempt_failed(self, attempt: Attempt, error: ExchangeError) -> None:
        """Handles an attempt without a reply: repeats the query over TCP, or queries another upstream."""
        self._failure = error
        if isinstance(error, SpoofedError):
            if not attempt.tcp and self._repeats_over_tcp(attempt.server):
                return
            self._liars += (attempt.server,)
        self._failed_attempts += 1
        self._continue()

    def _may_pass(self, simple: SimpleReply, server: Server) -> bool:
        """Returns True if the exchange may end with this simple reply (only addresses or a denial).

        Returns False if another upstream must be queried, or if the rebind guard must remove records.
        """
        guard = self._group.rebind_guard
        if simple.rcode and simple.rcode in self._group.failover:
            return False
        if guard is None or not (simple.aliases or guard.checks_addresses):
            return True
        return guard.may_pass(simple, self.key[0], server.label)

    def _repeats_over_tcp(self, server: Server) -> bool:
        """Repeats the query over TCP to the same upstream.

        Returns False if the time is over or MAX_QUERIES have been sent.
        """
        now = self._group.clock()
        if self._queries >= MAX_QUERIES or now >= self._deadline:
            return False
        self._send(server, now, self._group.rule.read_timeout, tcp=True)
        return True

    def _take_or_retry(self, attempt: Attempt, message: Message) -> None:
        """Ends the exchange with the reply, queries another upstream, or repeats the query to the same upstream.

        Called for replies that are not simple replies (only addresses or a denial).
        """
        rule = self._group.rule
        if message.edns is None and message.rcode in _WITHOUT_EDNS and self._removes_opt_record():
            self._send(attempt.server, self._group.clock(), rule.read_timeout, tcp=attempt.tcp)
            return
        is_cut = message.flags & TC and message.rcode not in self._group.failover
        if is_cut and rule.prefer_udp and not attempt.tcp and self._repeats_over_tcp(attempt.server):
            return
        reply = self._screened(message, attempt.server.label)
        if reply.rcode in self._group.failover:
            self._last_reply = reply
            self._continue()
        else:
            self._finish(reply)

    def _removes_opt_record(self) -> bool:
        """Removes the OPT record that a plugin added, so that the query can be repeated without EDNS.

        Returns False if no plugin added an OPT record or if MAX_QUERIES have been sent.
        """
        query = self._query
        if query.edns is None or not self.key[-1] or self._queries >= MAX_QUERIES:
            return False
        self._query = query.without_opt()
        return True

    def _screened(self, message: Message, source: str) -> Reply:
        """Returns the reply for the clients.

        Records that do not belong to the query, and records that the rebind guard removes, are left out.
        """
        group, key = self._group, self.key[0]
        group.cells.stripped(source, remove_unrelated_records(message, key))
        if message.trailing:
            group.cells.trailing(source)
        if self._query.edns is None:
            message.edns = None
        blocked = group.rebind_guard is not None and group.rebind_guard.screen(message, key, source)
        return _reply(message, source, ExtendedError.BLOCKED if blocked else None)

    def _continue(self) -> None:
        """Queries the next upstream after a failed attempt, or ends the exchange with the best reply so far.

        If no upstream has replied, each one is queried a second time.
        """
        if self._query_next(self._group.clock()) or self._attempts:
            return
        if self._last_reply is not None:
            self._finish(self._last_reply)
            return
        self._untried = [server for server in self._servers() if server not in self._liars]
        if not self._query_next(self._group.clock()):
            self._finish(servfail(self._failure))

    def stop(self, reply: Reply) -> None:
        """Ends the exchange. All waiting clients get `reply`."""
        self._finish(reply)

    def _finish(self, reply: Reply | None = None) -> None:
        """Ends the exchange with `reply`, or with the simple reply (only addresses or a denial) that was received."""
        self.is_over, self._reply = True, reply
        if self._is_last_resort:
            self._group.last_resorts -= 1
        if self._attempts:
            for attempt in self._attempts:
                attempt.abandon()
            self._attempts.clear()
        self._completed(self)


def servfail(failure: ExchangeError | None) -> Reply:
    """Returns a SERVFAIL reply that logs `failure`.

    Clients that use EDNS also get an extended DNS error (RFC 8914 §4.23, §4.24).
    """
    code = ExtendedError.NO_REACHABLE_AUTHORITY if failure is None or failure.timed_out else ExtendedError.NETWORK_ERROR
    return Reply(
        rcode=Rcode.SERVFAIL, extended=code, has_message=False, error=NO_HEALTHY if failure is None else str(failure)
    )


def _reply(message: Message, source: str, extended: int | None = None) -> Reply:
    return Reply(
        rcode=message.rcode,
        flags=message.flags & (_FORWARDED_FLAGS if extended is None else _FORWARDED_FLAGS & ~AD),
        answer=message.answer,
        authority=message.authority,
        additional=message.additional,
        edns=None if message.edns is None else without_nsid(message.edns),
        extended=extended,
        source=source,
    )
