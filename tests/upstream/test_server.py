"""An upstream server: queries, health checks and metrics."""

from __future__ import annotations

import asyncio

import dns.message
import pytest

from svcdns.eventloop.timer_wheel import TICK, TimerWheel
from svcdns.telemetry.counters import Counters
from svcdns.upstream.health import CIRCUIT_THRESHOLD, SILENCE
from svcdns.upstream.query import ExchangeError, Received, SpoofedError, UpstreamQuery, as_message
from svcdns.upstream.server import BACK_OFF, PROBE_TIMEOUT, Attempt, Server, ServerOptions
from svcdns.upstream.udp import MAX_DROPPED
from svcdns.wire import names
from svcdns.wire.codes import RD, Rcode
from svcdns.wire.message import Message
from tests.support import world
from tests.support.scripted_upstream import Held, Respond, ScriptedUpstream, answer, held, silence
from tests.support.upstreams import finish

QUERY = UpstreamQuery(names.from_text("a.example.org."), 1, 1, RD)
A = answer("a.example.org. 60 IN A 192.0.2.1")
FOREIGN = ("svcdns_forward_foreign_replies_total",)


def reply_to(query: dns.message.Message, transport: str) -> bytes:
    found = A(query, transport)
    assert isinstance(found, bytes)
    return found


class Querying:
    """An upstream server that the test queries. The test moves its clock."""

    def __init__(self, upstream: ScriptedUpstream, options: ServerOptions | None = None) -> None:
        self.clock, self.counters = world.Clock(), Counters()
        self.to = f"127.0.0.1:{upstream.port}"
        self.server = Server(
            ("127.0.0.1", upstream.port), options or ServerOptions(), self.counters, TimerWheel(self.clock)
        )
        self.outcomes: list[Received | ExchangeError] = []

    def ask(self, *, tcp: bool = False) -> Attempt:
        """Starts a query. Its outcome is added to `outcomes`."""
        server = self.server
        timeout = server.options.read_timeout
        attempt = Attempt(server, QUERY, lambda _, outcome: self.outcomes.append(outcome), self.clock(), timeout)
        attempt.start(tcp=tcp)
        return attempt

    async def answer(self, *, tcp: bool = False) -> Message:
        count = len(self.outcomes) + 1
        self.ask(tcp=tcp)
        await self.until(count)
        outcome = self.outcomes[-1]
        assert not isinstance(outcome, ExchangeError)
        return as_message(outcome)

    async def move(self, seconds: float) -> None:
        """Moves the clock forward, and runs the timers that are due."""
        self.clock.turn(seconds + 2 * TICK)
        for _ in range(5):
            self.server.timer_wheel.run_due()
            await asyncio.sleep(0)

    async def until(self, count: int) -> None:
        """Waits for `count` outcomes."""
        async with asyncio.timeout(10):
            while len(self.outcomes) < count:
                await asyncio.sleep(0)

    def end(self) -> None:
        """Stops the server, and cancels its open queries."""
        finish(self.server)

    def counted(self, name: str, *labels: str) -> float:
        """Returns the value of a metric."""
        return world.counted(self.counters).get((name, *labels), 0.0)


async def test_observes_by_response_code() -> None:
    async with ScriptedUpstream(answer(rcode=3)) as upstream:
        asking = Querying(upstream)
        await asking.answer()
        assert asking.counted("coredns_proxy_request_duration_seconds", "forward", asking.to, "NXDOMAIN") == 1
        asking.end()


async def test_all_response_codes_make_few_series() -> None:
    """An upstream may send all 4,096 response codes. Those without a mnemonic have the label `other`."""
    async with ScriptedUpstream() as upstream:
        asking = Querying(upstream)
        for rcode in range(1 << 12):
            asking.server.answered(0.0, rcode)
        known = len(Rcode.__members__)
        assert asking.counted("coredns_proxy_request_duration_seconds", "forward", asking.to, "other") == 4096 - known
        durations = [
            one for one in world.counted(asking.counters) if one[0] == "coredns_proxy_request_duration_seconds"
        ]
        assert len(durations) == known + 1
        asking.end()


async def test_no_reply_in_time() -> None:
    async with ScriptedUpstream(silence) as upstream:
        asking = Querying(upstream, ServerOptions(read_timeout=2.0, max_fails=0))
        asking.ask()
        await asking.move(1.9)
        assert asking.outcomes == []
        await asking.move(0.2)
        (outcome,) = asking.outcomes
        assert isinstance(outcome, ExchangeError)
        assert (str(outcome), outcome.timed_out) == (f"{asking.to}: i/o timeout", True)
        asking.end()


async def test_the_circuit_opens_within_a_fraction_of_a_second_and_a_health_check_closes_it() -> None:
    """The circuit opens if no query gets a reply within `SILENCE` seconds."""
    async with ScriptedUpstream(silence) as upstream:
        asking = Querying(upstream)
        for _ in range(CIRCUIT_THRESHOLD):
            asking.ask()
        await asking.move(SILENCE)
        assert asking.server.health.circuit_open
        assert asking.counted("svcdns_forward_circuit_open", asking.to) == 1
        assert asking.outcomes == []
        upstream.respond = answer()
        await asking.move(asking.server.options.probe_interval)
        async with asyncio.timeout(10):
            while asking.server.health.circuit_open:
                await asyncio.sleep(0)
        assert asking.counted("svcdns_forward_circuit_open", asking.to) == 0
        await asking.move(5.0)
        asking.end()


async def test_a_slow_name_is_no_silence() -> None:
    async with ScriptedUpstream(held(A)) as upstream:
        asking = Querying(upstream)
        for _ in range(CIRCUIT_THRESHOLD):
            asking.ask()
            await upstream.question()
        asking.clock.turn(0.1)
        upstream.respond = A
        asking.ask()
        await asking.until(1)
        await asking.move(0.1)
        assert not asking.server.health.circuit_open
        assert asking.server._current_run == 0
        upstream.release()
        await asking.until(1 + CIRCUIT_THRESHOLD)
        asking.end()


async def test_an_abandoned_query_without_a_reply_is_a_failure() -> None:
    """The query is abandoned because another server answered first."""
    async with ScriptedUpstream(silence) as upstream:
        asking = Querying(upstream)
        for _ in range(CIRCUIT_THRESHOLD):
            asking.ask().abandon()
        assert len(asking.server._sockets) == CIRCUIT_THRESHOLD
        await asking.move(SILENCE)
        assert asking.server.health.circuit_open
        assert asking.outcomes == []
        await asking.move(PROBE_TIMEOUT + 0.1)
        assert len(asking.server._sockets) <= 1  # a health check
        asking.server.stop()
        await asking.move(PROBE_TIMEOUT + 0.1)
        assert len(asking.server._sockets) == 0


async def test_health_checks_go_on_until_a_reply() -> None:
    """The interval is that of the options, and each check has a timeout of one second."""
    async with ScriptedUpstream(silence) as upstream:
        asking = Querying(upstream, ServerOptions(probe_interval=0.5, max_fails=1))
        asking.server.start_checks()
        for _ in range(5):
            await asking.move(0.5)
        assert [message.rtype for message, _ in upstream.asked] == [2] * 6
        assert asking.server.health.down
        assert asking.counted("coredns_proxy_healthcheck_failures_total", "forward", asking.to) == 4
        upstream.respond = answer(rcode=5)
        await asking.move(0.5)
        async with asyncio.timeout(10):
            while asking.server.health.down:
                await asyncio.sleep(0)
        await asking.move(2.0)
        assert len(upstream.asked) == 7
        asking.end()


async def test_a_closed_port_fails_each_health_check() -> None:
    """Each check fails immediately. There are never two series of checks at the same time."""
    async with ScriptedUpstream() as upstream:
        upstream.close()
        asking = Querying(upstream, ServerOptions(max_fails=1))
        for _ in range(3):
            asking.server.start_checks()
        for _ in range(3):
            await asking.move(0.5)
        assert asking.server.health.down
        assert asking.counted("coredns_proxy_healthcheck_failures_total", "forward", asking.to) == 4
        asking.end()
        await asking.move(5.0)
        assert asking.counted("coredns_proxy_healthcheck_failures_total", "forward", asking.to) == 4


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_the_query_of_a_health_check(tcp: bool) -> None:
    """The options determine the name and the RD bit. Checks use TCP if all queries do."""
    async with ScriptedUpstream() as upstream:
        options = ServerOptions(probe_name=names.from_text("a.b."), probe_recursion=False, probe_tcp=tcp)
        asking = Querying(upstream, options)
        asking.server.query_failed()
        message = await upstream.question()
        assert (names.to_text(message.name), message.rtype, message.flags & RD) == ("a.b.", 2, 0)
        assert upstream.transports == ["tcp" if tcp else "udp"]
        async with asyncio.timeout(10):
            while asking.server._current_run:
                await asyncio.sleep(0)
        asking.end()
        await asking.move(PROBE_TIMEOUT + 1)


async def test_no_health_checks_without_a_limit() -> None:
    """With `max_fails 0` or without an interval, the server stays usable."""
    async with ScriptedUpstream() as upstream:
        for options in (ServerOptions(max_fails=0), ServerOptions(probe_interval=0.0)):
            asking = Querying(upstream, options)
            asking.server.query_failed()
            assert asking.server._current_run == 0
            assert asking.server.health.usable


def lying(count: int) -> Respond:
    """Returns `count` wrong packets over UDP, and the correct reply over TCP."""
    return lambda query, by: [b"\0" * 12] * count if by == "udp" else A(query, by)


@pytest.mark.parametrize(("count", "wait"), [(1, BACK_OFF), (MAX_DROPPED + 9, 0.0)], ids=["one", "a flood"])
async def test_lies_end_the_query(count: int, wait: float) -> None:
    """After a wrong packet, the query waits BACK_OFF seconds for the reply. After a flood of wrong packets, it does not
    wait.

    The query fails with SpoofedError. The server does not count as failed, because an attacker may have sent the
    packets.
    """
    async with ScriptedUpstream(lying(count)) as upstream:
        asking = Querying(upstream)
        asking.ask()
        async with asyncio.timeout(10):
            while asking.counted(*FOREIGN, asking.to, "id") < min(count, MAX_DROPPED):
                await asyncio.sleep(0)
        assert len(asking.outcomes) == (not wait)
        await asking.move(wait)
        (outcome,) = asking.outcomes
        assert isinstance(outcome, SpoofedError)
        assert str(outcome) == f"{asking.to}: no valid reply: id"
        assert asking.server.health.usable
        assert asking.server._current_run == 0
        asking.end()


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_the_reply_may_come_after_a_lie(tcp: bool) -> None:
    async with ScriptedUpstream(lambda query, by: [b"\0" * 12, Held(reply_to(query, by))]) as upstream:
        asking = Querying(upstream)
        asking.ask(tcp=tcp)
        async with asyncio.timeout(10):
            while not asking.counted(*FOREIGN, asking.to, "id"):
                await asyncio.sleep(0)
        await asking.move(BACK_OFF - 0.05)
        upstream.release()
        await asking.until(1)
        (outcome,) = asking.outcomes
        assert not isinstance(outcome, ExchangeError)
        await asking.move(BACK_OFF)
        assert len(asking.outcomes) == 1
        asking.end()


async def test_lies_over_tcp_are_a_failure_of_the_server() -> None:
    async with ScriptedUpstream(lambda *_: [b"\0" * 12]) as upstream:
        asking = Querying(upstream)
        asking.ask(tcp=True)
        async with asyncio.timeout(10):
            while not asking.counted(*FOREIGN, asking.to, "id"):
                await asyncio.sleep(0)
        await asking.move(BACK_OFF)
        assert isinstance(asking.outcomes[0], SpoofedError)
        assert asking.server._current_run == 1
        asking.end()


async def test_lies_to_an_abandoned_query_are_a_failure_of_the_server() -> None:
    """The server sent only wrong packets before the query was abandoned."""
    async with ScriptedUpstream(lying(1)) as upstream:
        asking = Querying(upstream)
        asking.ask().abandon()
        async with asyncio.timeout(10):
            while not asking.counted(*FOREIGN, asking.to, "id"):
                await asyncio.sleep(0)
        await asking.move(BACK_OFF)
        assert asking.outcomes == []
        assert asking.server._current_run == 1
        asking.end()


async def test_a_lack_of_descriptors_is_not_the_servers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream() as upstream:
        asking = Querying(upstream)

        def none_left(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("svcdns.upstream.udp.socket.SocketType", none_left)
        for _ in range(CIRCUIT_THRESHOLD):
            asking.ask()
        assert asking.outcomes == []
        await asking.until(CIRCUIT_THRESHOLD)
        assert str(asking.outcomes[0]) == f"{asking.to}: too many open files"
        assert asking.server.health.usable
        assert asking.server._current_run == 0


async def test_connection_use_is_counted() -> None:
    """A new connection is counted as a miss, an existing one as a hit."""
    async with ScriptedUpstream(A) as upstream:
        asking = Querying(upstream)
        for _ in range(3):
            await asking.answer(tcp=True)
        await asking.answer()
        counted = [
            asking.counted(f"coredns_proxy_conn_cache_{which}_total", "forward", asking.to, "tcp")
            for which in ("misses", "hits")
        ]
        assert counted == [1, 2]
        assert asking.counted("coredns_proxy_conn_cache_misses_total", "forward", asking.to, "udp") == 1
        asking.end()
