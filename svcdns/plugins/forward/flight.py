"""One question on its way to the upstreams of a `forward` line, for all who asked for the same.

Rules. An upstream is asked once before any is asked again. The next one is asked when an upstream fails, when it replies with a response
code that says so, when it is silent, and, unless the policy is sequential, when it is slower than usual; the last costs extra packets and
has a bounded share (`Hedges`). The first reply that is an answer ends the flight. With no upstream usable, one is asked nevertheless, for
LAST_RESORT seconds; LAST_RESORTS flights at once do so and no more: health checks will tell when there is somebody to ask.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from svcdns.chain.later import Later
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.options import Rule
from svcdns.upstream.alarms import Alarms
from svcdns.upstream.exchange import ExchangeError, Question, shown
from svcdns.upstream.health import SILENCE
from svcdns.upstream.server import Attempt, Server
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, ExtendedError, Rcode
from svcdns.wire.message import Message
from svcdns.wire.reply import Reply

BUDGET: Final = 5.0
"""Seconds that a flight takes at most, or one attempt if that may take longer."""
LAST_RESORT: Final = 1.0
"""Seconds that an upstream has where all are known not to answer."""
LAST_RESORTS: Final = 256
"""Flights at once that ask an upstream although none is usable."""
MAX_PACKETS: Final = 32
"""Questions to upstreams that one flight may cost, whatever the options say."""
HEDGED_SHARE: Final = 0.1
"""Questions to a second upstream for slowness alone, for each flight."""
HEDGED_AT_ONCE: Final = 20.0
NO_HEALTHY: Final = "no healthy proxies"

_PASSED_ON: Final = AA | TC | RD | RA | AD | CD


class Hedges:
    """How many more packets may be spent on slowness: each flight earns a share of one."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = HEDGED_AT_ONCE

    def earn(self) -> None:
        """There is one more flight."""
        self._left = min(HEDGED_AT_ONCE, self._left + HEDGED_SHARE)

    def spend(self) -> bool:
        """Whether one may be sent."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Team:
    """What the flights of a line share: its rule, its servers, how many attempts may fail, the share of hedges, counters."""

    def __init__(self, rule: Rule, servers: Sequence[Server], cells: Cells, alarms: Alarms) -> None:
        self.rule, self.servers, self.cells, self.alarms, self.clock = rule, servers, cells, alarms, alarms.clock
        attempts = rule.max_connect_attempts
        self.attempts = 2 * len(servers) if attempts < 0 else attempts or MAX_PACKETS
        self.hedges = Hedges()
        self.order = _policy(rule.policy)
        self.sequential = rule.policy == "sequential"
        self.failover = rule.failover | {Rcode.SERVFAIL, Rcode.REFUSED}
        self.budget = max(BUDGET, rule.read_timeout)
        self.resorting = 0
        """Flights that ask as a last resort."""

    @property
    def hopeless(self) -> bool:
        """Whether there is nobody to ask."""
        for server in self.servers:
            if server.health.usable:
                return False
        if self.rule.failfast and all(server.health.down for server in self.servers):
            return True
        return self.resorting >= LAST_RESORTS or not self.servers

    def is_alone(self, avoid: str) -> bool:
        """Whether there is no other upstream than that."""
        return bool(avoid) and all(shown(server.address) == avoid for server in self.servers)

    def given_up(self) -> Reply:
        """The reply to a question that nobody is asked for."""
        self.cells.broken()
        return servfail(None)


class Flight:
    """One question under way; `landed` is called once, with the flight that has its `reply` by then."""

    __slots__ = (
        "_avoid", "_due", "_ends", "_errors", "_failure", "_landed", "_last", "_out", "_packets", "_question", "_resorts", "_tcp", "_team",
        "_unasked", "key", "reply", "waiters",
    )  # fmt: skip

    def __init__(
        self, team: Team, question: Question, key: object, landed: Callable[[Flight], None], *, tcp: bool, avoid: str = ""
    ) -> None:
        """Nothing is asked before `start`, and never the upstream `avoid`."""
        self._team, self._question, self._landed, self._tcp, self._avoid = team, question, landed, tcp, avoid
        self.key = key
        self.waiters: list[tuple[str, Later]] = []
        """Who asked, and where the reply goes."""
        self.reply: Reply | None = None
        self._unasked: list[Server] = []
        self._out: list[Attempt] = []
        self._errors = self._packets = 0
        self._failure: ExchangeError | None = None
        self._last: Reply | None = None
        self._ends = self._due = 0.0
        self._resorts = False

    def start(self) -> None:
        """Asks the first upstream; the team is not hopeless."""
        team = self._team
        team.hedges.earn()
        self._ends = team.clock() + team.budget
        servers = self._order()
        self._unasked = [*servers]
        if not self._ask_next():
            team.cells.broken()
            team.resorting += 1
            self._resorts = True
            self._ask(random.choice(servers), LAST_RESORT)

    def _order(self) -> list[Server]:
        """The upstreams that may be asked, in the order in which they are."""
        servers = self._team.order(self._team.servers)
        return [server for server in servers if shown(server.address) != self._avoid] if self._avoid else servers

    def _next(self) -> Server | None:
        """The first upstream that is usable and was not asked yet."""
        while self._unasked:
            if self._unasked[0].health.usable:
                return self._unasked[0]
            del self._unasked[0]
        return None

    def _ask_next(self) -> bool:
        """Asks that; whether there is one, and one more may be asked."""
        server, team = self._next(), self._team
        spent = self._errors + len(self._out) >= team.attempts or self._packets >= MAX_PACKETS
        if server is None or spent or team.clock() >= self._ends:
            return False
        del self._unasked[0]
        self._ask(server, team.rule.read_timeout)
        return True

    def _ask(self, server: Server, timeout: float, *, tcp: bool = False) -> None:
        self._packets += 1
        team = self._team
        began = team.clock()
        attempt = server.ask(self._question, self._came, tcp=self._tcp or tcp, timeout=min(timeout, self._ends - began))
        self._out.append(attempt)
        if self._unasked:
            self._look_at(began + (SILENCE if team.sequential else server.health.patience))

    def _look_at(self, when: float) -> None:
        self._due = when
        self._team.alarms.at(when, self._look)

    def _look(self) -> None:
        """Whether the next upstream is to be asked while the last one is still waited for."""
        team, now = self._team, self._team.clock()
        if self.reply is not None or not self._out or now < self._due:
            return
        latest, server = self._out[-1], self._next()
        if server is None:
            return
        if team.sequential:
            quiet_until = max(latest.began, latest.server.health.heard) + SILENCE
            silent = hedged = now >= quiet_until
        else:
            quiet_until = now + SILENCE
            silent = latest.silent
            hedged = silent or team.hedges.spend()
        if not hedged:
            self._look_at(quiet_until)
        elif self._ask_next():
            team.cells.hedged(shown(server.address), "silent" if silent else "slow")

    def _came(self, attempt: Attempt, outcome: Message | ExchangeError) -> None:
        self._out.remove(attempt)
        if isinstance(outcome, ExchangeError):
            self._errors += 1
            self._failure = outcome
            self._go_on()
        elif outcome.flags & 15 in self._team.failover:
            self._last = _reply(outcome, attempt.server)
            self._go_on()
        elif outcome.flags & TC and self._team.rule.prefer_udp and not (self._tcp or attempt.tcp) and self._packets < MAX_PACKETS:
            self._ask(attempt.server, self._team.rule.read_timeout, tcp=True)
        else:
            self._land(_reply(outcome, attempt.server))

    def _go_on(self) -> None:
        """An upstream has brought nothing: the next one, in a second round if need be; else what there is."""
        if self._ask_next() or self._out:
            return
        if self._last is not None:
            self._land(self._last)
            return
        self._unasked = self._order()
        if not self._ask_next():
            self._land(servfail(self._failure))

    def _land(self, reply: Reply) -> None:
        self.reply = reply
        if self._resorts:
            self._team.resorting -= 1
        for attempt in self._out:
            attempt.abandon()
        self._out.clear()
        self._landed(self)


def servfail(failure: ExchangeError | None) -> Reply:
    """SERVFAIL with the last reason, for the log; for clients with EDNS an extended error (RFC 8914 §4.23, §4.24)."""
    code = ExtendedError.NO_REACHABLE_AUTHORITY if failure is None or failure.silent else ExtendedError.NETWORK_ERROR
    return Reply(rcode=Rcode.SERVFAIL, extended=code, written=False, error=NO_HEALTHY if failure is None else str(failure))


def _reply(message: Message, server: Server) -> Reply:
    return Reply(
        rcode=message.flags & 15,
        flags=message.flags & _PASSED_ON,
        answer=message.answer,
        authority=message.authority,
        additional=message.additional,
        edns=message.edns,
        source=shown(server.address),
    )


def _policy(name: str) -> Callable[[Sequence[Server]], list[Server]]:
    """The order in which the servers are tried for one question."""
    turn = 0

    def round_robin(servers: Sequence[Server]) -> list[Server]:
        nonlocal turn
        turn = (turn + 1) % len(servers)
        return [*servers[turn:], *servers[:turn]]

    def shuffled(servers: Sequence[Server]) -> list[Server]:
        return random.sample(servers, len(servers)) if len(servers) > 1 else list(servers)

    policies: dict[str, Callable[[Sequence[Server]], list[Server]]] = {"random": shuffled, "round_robin": round_robin, "sequential": list}
    return policies[name]
