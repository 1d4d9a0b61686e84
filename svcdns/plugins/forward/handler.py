"""The `forward` plugin: asks other servers (spec C-forward).

A question that an upstream fails to answer goes to the next one, until 5 s are over. Questions that are alike share one flight. What
comes back is passed on with its flags, records and OPT as they are; it is never put into the answer table from here, that is the cache's
business.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from svcdns.chain.environment import Environment
from svcdns.chain.handler import Following
from svcdns.chain.query import Answer, Query
from svcdns.plugins.forward.options import Named, Options, Rule, unpacked
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.upstream.exchange import Address, ExchangeError, Question
from svcdns.upstream.server import Manner, Server
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, Rcode
from svcdns.wire.message import Message
from svcdns.wire.reply import Reply, bare

BUDGET: Final = 5.0
"""Seconds after which no further attempt is begun."""
NO_HEALTHY: Final = "no healthy proxies"
MAX_IN_FLIGHT: Final = 4096
"""Flights of one `forward` line at once, whatever `max_concurrent` says: memory is bounded."""
MAX_WAITERS: Final = 1024
"""Clients that wait for one flight."""

BROKEN: Final = Family(
    "coredns_forward_healthcheck_broken_total",
    MetricKind.COUNTER,
    "Questions that found all upstreams down and were sent to one at random.",
)
REJECTED: Final = Family(
    "coredns_forward_max_concurrent_rejects_total", MetricKind.COUNTER, "Questions that were refused because too many were in flight."
)

_PASSED_ON: Final = AA | TC | RD | RA | AD | CD


class Forward:
    """The `forward` lines of a block."""

    name = "forward"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Servers are kept over a change of the chain."""
        self._lines = [_Line(rule, environment) for rule in options.rules]

    def handle(self, query: Query, following: Following) -> Answer:
        """Asks the upstreams of the first line that takes the name; other names go on."""
        return self._from(0, query, following)

    def _from(self, number: int, query: Query, following: Following) -> Answer:
        """The answer of the first line that takes the name, from that number on."""
        for at in range(number, len(self._lines)):
            line = self._lines[at]
            if line.takes(query.key):
                answer = line.answer(query)
                last = at + 1 == len(self._lines)
                return answer if last or not line.hands_on else self._or_next(answer, at, query, following)
        return following(query)

    async def _or_next(self, answer: Answer, at: int, query: Query, following: Following) -> Reply:
        """The answer of a line, or where that leaves the question to the next one, what that answers."""
        reply = answer if isinstance(answer, Reply) else await answer
        if not self._lines[at].leaves(reply):
            return reply
        answer = self._from(at + 1, query, following)
        return answer if isinstance(answer, Reply) else await answer


class _Flight:
    """A question on its way, and how many wait for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[Reply]) -> None:
        self.task, self.waiters = task, 1


class _Line:
    """One `forward` line at work."""

    def __init__(self, rule: Rule, environment: Environment) -> None:
        self._rule, self._clock = rule, environment.clock
        self._counters = environment.counters
        self._zone = names.from_text(rule.zone).lower()
        self._excepted = tuple(names.from_text(zone).lower() for zone in rule.excepted)
        self._servers = self._make_servers(environment)
        self._order = _policy(rule.policy)
        attempts = rule.max_connect_attempts
        self._attempts = 2 * len(self._servers) if attempts < 0 else attempts
        self._flights: dict[tuple[object, ...], _Flight] = {}
        self._waiting = 0
        self._broken, self._rejected = self._counters.cell(BROKEN), self._counters.cell(REJECTED)

    def _make_servers(self, environment: Environment) -> list[Server]:
        rule = self._rule
        manner = Manner(
            read_timeout=rule.read_timeout,
            expire=rule.expire,
            max_age=rule.max_age,
            max_idle=rule.max_idle_conns,
            max_fails=rule.max_fails,
            probe_interval=rule.health_check,
            probe_name=names.from_text(rule.health_domain),
            probe_recursion=rule.health_recursion,
            probe_tcp=rule.force_tcp,
            source=rule.source_address,
        )
        addresses: list[Address] = []
        for upstream in rule.upstreams:
            if isinstance(upstream, Named):
                content = environment.data("forward", rule.data_key(upstream))
                addresses += unpacked(content) if content else []
            else:
                addresses.append(upstream)

        def make(address: Address) -> Server:
            return Server(address, manner, environment.counters, environment.clock)

        return [environment.kept(("forward", address, manner), partial(make, address)) for address in dict.fromkeys(addresses)]

    def takes(self, key: bytes) -> bool:
        """Whether the name is to be forwarded by this line."""
        if not names.is_within(key, self._zone):
            return False
        return key == self._zone or not any(names.is_within(key, zone) for zone in self._excepted)

    @property
    def hands_on(self) -> bool:
        """Whether there are replies that the next line is tried for."""
        return bool(self._rule.next) or self._rule.next_on_nodata

    def leaves(self, reply: Reply) -> bool:
        """Whether this reply is one of those. A failure to get any reply is not."""
        empty = self._rule.next_on_nodata and reply.rcode == Rcode.NOERROR and not reply.answer
        return reply.written and (empty or reply.rcode in self._rule.next)

    def answer(self, query: Query) -> Answer:
        """The upstreams' answer, when it comes."""
        limit = self._rule.max_concurrent
        if limit and self._waiting >= limit:
            self._counters.add(self._rejected)
            return bare(Rcode.REFUSED, f"concurrent queries exceeded maximum {limit}")
        tcp = self._rule.force_tcp or (query.client.protocol == "tcp" and not self._rule.prefer_udp)
        question = Question(query.name, query.rtype, query.rclass, query.flags & (RD | AD | CD), query.edns)
        key = (query.key, query.rtype, query.rclass, question.flags, query.edns, tcp)
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= MAX_IN_FLIGHT:
                self._counters.add(self._rejected)
                return bare(Rcode.REFUSED, f"concurrent queries exceeded maximum {MAX_IN_FLIGHT}")
            flight = self._flights[key] = _Flight(asyncio.ensure_future(self._fly(question, tcp=tcp)))
            flight.task.add_done_callback(lambda _: self._flights.pop(key, None))
        elif flight.waiters >= MAX_WAITERS:
            self._counters.add(self._rejected)
            return bare(Rcode.REFUSED, f"concurrent queries for one name exceeded maximum {MAX_WAITERS}")
        else:
            flight.waiters += 1
        return self._await(flight)

    def _await(self, flight: _Flight) -> Answer:
        """The flight's reply for one client, who counts from now on: a burst is limited before any of it is under way."""
        self._waiting += 1

        def ended(_: object) -> None:
            self._waiting -= 1
            flight.waiters -= 1

        outcome = asyncio.shield(flight.task)
        outcome.add_done_callback(ended)
        return outcome

    async def _fly(self, question: Question, *, tcp: bool) -> Reply:
        servers = self._order(self._servers)
        deadline = self._clock() + BUDGET
        attempts = at = skipped = refusals = 0
        failure = NO_HEALTHY
        while self._clock() < deadline and (not self._attempts or attempts < self._attempts):
            if at >= len(servers):
                at = skipped = 0
            server = servers[at]
            at += 1
            if server.down:
                skipped += 1
                if skipped < len(servers):
                    continue
                self._counters.add(self._broken)
                if self._rule.failfast:
                    break
                server = random.choice(servers)
            try:
                message = await self._ask(server, question, tcp=tcp)
            except ExchangeError as error:
                failure = str(error)
                attempts += 1
                server.failed()
                continue
            failure = NO_HEALTHY
            if message.flags & 15 in self._rule.failover:
                refusals += 1
                if refusals < len(servers):
                    continue
            return _reply(message)
        return bare(Rcode.SERVFAIL, failure)

    async def _ask(self, server: Server, question: Question, *, tcp: bool) -> Message:
        message = await server.ask(question, tcp=tcp)
        if message.flags & TC and not tcp and self._rule.prefer_udp:
            return await server.ask(question, tcp=True)
        return message


def _reply(message: Message) -> Reply:
    return Reply(
        rcode=message.flags & 15,
        flags=message.flags & _PASSED_ON,
        answer=message.answer,
        authority=message.authority,
        additional=message.additional,
        edns=message.edns,
    )


def _policy(name: str) -> Callable[[Sequence[Server]], list[Server]]:
    """The order in which the servers are tried for one question."""
    turn = 0

    def round_robin(servers: Sequence[Server]) -> list[Server]:
        nonlocal turn
        turn = (turn + 1) % len(servers)
        return [*servers[turn:], *servers[:turn]]

    def shuffled(servers: Sequence[Server]) -> list[Server]:
        return random.sample(servers, len(servers))

    policies: dict[str, Callable[[Sequence[Server]], list[Server]]] = {"random": shuffled, "round_robin": round_robin, "sequential": list}
    return policies[name]
