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

from svcdns.eventloop.timer_wheel import TimerWheel
from svcdns.plugin_api.fast_path import UpstreamReply
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.options import Rule
from svcdns.upstream.health import SILENCE
from svcdns.upstream.query import ExchangeError, Question
from svcdns.upstream.server import Attempt, Server
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, ExtendedError, Rcode
from svcdns.wire.message import Message
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import SimpleReply, scan

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


FlightKey = tuple[bytes, int, int, int, Edns | None, bool, str]
"""Lowered name, type, class, flags, EDNS, whether over TCP, the upstream that is not to be asked."""


class Hedges:
    """How many more packets may be spent on slowness: each flight earns a share of one."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = HEDGED_AT_ONCE

    def earn(self) -> None:
        """There is one more flight."""
        left = self._left + HEDGED_SHARE
        self._left = left if left < HEDGED_AT_ONCE else HEDGED_AT_ONCE

    def spend(self) -> bool:
        """Whether one may be sent."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Team:
    """What the flights of a line share: its rule, its servers, how many attempts may fail, the share of hedges, counters."""

    def __init__(self, rule: Rule, servers: Sequence[Server], cells: Cells, timer_wheel: TimerWheel) -> None:
        self.rule, self.servers, self.cells, self.timer_wheel, self.clock = rule, servers, cells, timer_wheel, timer_wheel.clock
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
        """Whether there is nobody to ask, where no upstream is usable."""
        if self.rule.failfast and all(server.health.down for server in self.servers):
            return True
        return self.resorting >= LAST_RESORTS or not self.servers

    def is_alone(self, avoid: str) -> bool:
        """Whether there is no other upstream than that."""
        return bool(avoid) and all(server.label == avoid for server in self.servers)


class Flight:
    """One question under way; `completed` is called once, with the flight that has its reply by then: as a plain one where it is one."""

    __slots__ = (
        "_avoid", "_due", "_ends", "_errors", "_failure", "_landed", "_last", "_out", "_packets", "_question", "_reply", "_resorts",
        "_source", "_tcp", "_team", "_unasked", "is_over", "key", "plain", "waiters",
    )  # fmt: skip

    def __init__(
        self, team: Team, question: Question, key: FlightKey, completed: Callable[[Flight], None], *, tcp: bool, avoid: str = ""
    ) -> None:
        """Nothing is asked before `start`, and never the upstream `avoid`."""
        self._team, self._question, self._landed, self._tcp, self._avoid = team, question, completed, tcp, avoid
        self.key = key
        self.waiters: list[tuple[str, Callable[[UpstreamReply], None]]] = []
        """Who asked, and who takes the reply."""
        self.is_over = False
        self.plain: SimpleReply | None = None
        self._reply: Reply | None = None
        self._source = ""
        self._unasked: list[Server] = []
        self._out: list[Attempt] = []
        self._errors = self._packets = 0
        self._failure: ExchangeError | None = None
        self._last: Reply | None = None
        self._ends = self._due = 0.0
        self._resorts = False

    @property
    def reply(self) -> Reply:
        """The reply, once there is one."""
        if self._reply is None:
            assert self.plain is not None
            self._reply = _reply(self._question.opened(self.plain.packet), self._source)
        return self._reply

    def start(self) -> bool:
        """Asks the first upstream; whether there is one to ask."""
        team = self._team
        now = team.clock()
        self._ends = now + team.budget
        self._unasked = self._order()
        if not self._ask_next(now):
            team.cells.broken()
            if team.hopeless:
                return False
            team.resorting += 1
            self._resorts = True
            self._ask(random.choice(self._order()), now, LAST_RESORT)
        team.hedges.earn()
        return True

    def _order(self) -> list[Server]:
        """The upstreams that may be asked, in the order in which they are."""
        servers = self._team.order(self._team.servers)
        return [server for server in servers if server.label != self._avoid] if self._avoid else servers

    def _next(self) -> Server | None:
        """The first upstream that is usable and was not asked yet."""
        while self._unasked:
            if self._unasked[0].health.usable:
                return self._unasked[0]
            del self._unasked[0]
        return None

    def _ask_next(self, now: float) -> bool:
        """Asks that; whether there is one, and one more may be asked."""
        server, team = self._next(), self._team
        spent = self._errors + len(self._out) >= team.attempts or self._packets >= MAX_PACKETS
        if server is None or spent or now >= self._ends:
            return False
        del self._unasked[0]
        self._ask(server, now, team.rule.read_timeout)
        return True

    def _ask(self, server: Server, now: float, timeout: float, *, tcp: bool = False) -> None:
        self._packets += 1
        attempt = Attempt(server, self._question, self._came, now, min(timeout, self._ends - now))
        self._out.append(attempt)
        attempt.start(tcp=self._tcp or tcp)
        if self._unasked:
            self._look_at(now + (SILENCE if self._team.sequential else server.health.patience))

    def _look_at(self, when: float) -> None:
        self._due = when
        self._team.timer_wheel.at(when, self._look)

    def _look(self) -> None:
        """Whether the next upstream is to be asked while the last one is still waited for."""
        team, now = self._team, self._team.clock()
        if self.is_over or not self._out or now < self._due:
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
        elif self._ask_next(now):
            team.cells.hedged(server.label, "silent" if silent else "slow")

    def _came(self, attempt: Attempt, outcome: bytes | ExchangeError) -> None:
        self._out.remove(attempt)
        if isinstance(outcome, ExchangeError):
            self._errors += 1
            self._failure = outcome
            self._go_on()
            return
        question = self._question
        self.plain = scan(outcome, question.end, question.rtype)
        if self.plain is not None and self.plain.rcode in self._team.failover:
            self.plain = None
        if self.plain is not None:
            self._source = attempt.server.label
            self._land()
        else:
            self._judge(attempt, question.opened(outcome))

    def _judge(self, attempt: Attempt, message: Message) -> None:
        """What is to be done about a reply that is not a plain one."""
        reply = _reply(message, attempt.server.label)
        if reply.rcode in self._team.failover:
            self._last = reply
            self._go_on()
        elif message.flags & TC and self._team.rule.prefer_udp and not (self._tcp or attempt.tcp) and self._packets < MAX_PACKETS:
            self._ask(attempt.server, self._team.clock(), self._team.rule.read_timeout, tcp=True)
        else:
            self._land(reply)

    def _go_on(self) -> None:
        """An upstream has brought nothing: the next one, in a second round if need be; else what there is."""
        if self._ask_next(self._team.clock()) or self._out:
            return
        if self._last is not None:
            self._land(self._last)
            return
        self._unasked = self._order()
        if not self._ask_next(self._team.clock()):
            self._land(servfail(self._failure))

    def _land(self, reply: Reply | None = None) -> None:
        """Ends with a reply, the plain one if there is no other."""
        self.is_over, self._reply = True, reply
        if self._resorts:
            self._team.resorting -= 1
        for attempt in self._out:
            attempt.abandon()
        self._out.clear()
        self._landed(self)


def servfail(failure: ExchangeError | None) -> Reply:
    """SERVFAIL with the last reason, for the log; for clients with EDNS an extended error (RFC 8914 §4.23, §4.24)."""
    code = ExtendedError.NO_REACHABLE_AUTHORITY if failure is None or failure.silent else ExtendedError.NETWORK_ERROR
    return Reply(rcode=Rcode.SERVFAIL, extended=code, has_message=False, error=NO_HEALTHY if failure is None else str(failure))


def _reply(message: Message, source: str) -> Reply:
    return Reply(
        rcode=message.flags & 15,
        flags=message.flags & _PASSED_ON,
        answer=message.answer,
        authority=message.authority,
        additional=message.additional,
        edns=message.edns,
        source=source,
    )


def _policy(name: str) -> Callable[[Sequence[Server]], list[Server]]:
    """The order in which the servers are tried for one question."""
    turn = 0

    def round_robin(servers: Sequence[Server]) -> list[Server]:
        nonlocal turn
        turn = (turn + 1) % max(1, len(servers))
        return [*servers[turn:], *servers[:turn]]

    def shuffled(servers: Sequence[Server]) -> list[Server]:
        return random.sample(servers, len(servers)) if len(servers) > 1 else list(servers)

    policies: dict[str, Callable[[Sequence[Server]], list[Server]]] = {"random": shuffled, "round_robin": round_robin, "sequential": list}
    return policies[name]
