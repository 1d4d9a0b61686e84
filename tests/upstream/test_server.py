"""One upstream server: health and kept connections."""

from __future__ import annotations

import asyncio

from svcdns.telemetry.clock import monotonic
from svcdns.telemetry.counters import Counters
from svcdns.upstream.exchange import Question
from svcdns.upstream.server import Manner, Server
from svcdns.wire import names
from svcdns.wire.codes import RD
from tests.support import world
from tests.support.scripted_upstream import ScriptedUpstream, answer

QUESTION = Question(names.from_text("a.example.org."), 1, 1, RD)


async def test_probes_until_it_answers() -> None:
    """A closed port fails probe after probe; then it is down; then it is up again."""
    async with ScriptedUpstream() as upstream:
        port = upstream.port
        upstream.close()
        counters = Counters()
        server = Server(("127.0.0.1", port), Manner(probe_interval=0.01, max_fails=1), counters, monotonic)
        server.failed()
        async with asyncio.timeout(10):
            while not server.down:
                await asyncio.sleep(0)
        assert world.counted(counters)["coredns_proxy_healthcheck_failures_total", "forward", f"127.0.0.1:{port}"] >= 2
        probing = server._probing
        assert probing is not None
        assert not probing.done()
        server.stop()
        await asyncio.gather(probing, return_exceptions=True)
        assert probing.cancelled()


async def test_what_the_probe_asks() -> None:
    """`. NS` with RD, or as told."""
    async with ScriptedUpstream() as upstream:
        manner = Manner(probe_name=names.from_text("a.b."), probe_recursion=False)
        server = Server(("127.0.0.1", upstream.port), manner, Counters(), monotonic)
        server.failed()
        message = await upstream.question()
        assert (names.to_text(message.name), message.rtype, message.flags & RD) == ("a.b.", 2, 0)
        assert server._probing is not None
        await server._probing
        assert not server.down


async def test_never_down_without_a_limit() -> None:
    """max_fails 0: no probes."""
    server = Server(("127.0.0.1", 9), Manner(max_fails=0), Counters(), monotonic)
    server.failed()
    assert server._probing is None
    assert not server.down


async def test_connections_that_are_too_old_are_not_used() -> None:
    """By the time they were idle, and by their age."""
    async with ScriptedUpstream(answer()) as upstream:
        for manner in (Manner(expire=10.0), Manner(expire=100.0, max_age=10.0)):
            clock = world.Clock()
            before = upstream.connections
            server = Server(("127.0.0.1", upstream.port), manner, Counters(), clock)
            for seconds in (9.0, 11.0):
                await server.ask(QUESTION, tcp=True)
                clock.turn(seconds)
            await server.ask(QUESTION, tcp=True)
            assert upstream.connections - before == 2
            server.stop()


async def test_no_more_connections_are_kept_than_allowed() -> None:
    """The rest are closed after their question."""
    async with ScriptedUpstream(answer()) as upstream:
        server = Server(("127.0.0.1", upstream.port), Manner(max_idle=1), Counters(), monotonic)
        await asyncio.gather(*(server.ask(QUESTION, tcp=True) for _ in range(3)))
        assert len(server._idle) == 1
        server.stop()


async def test_observes_by_response_code() -> None:
    """A histogram for each."""
    async with ScriptedUpstream(answer(rcode=3)) as upstream:
        counters = Counters()
        await Server(("127.0.0.1", upstream.port), Manner(), counters, monotonic).ask(QUESTION, tcp=False)
        to = f"127.0.0.1:{upstream.port}"
        assert world.counted(counters)["coredns_proxy_request_duration_seconds", "forward", to, "NXDOMAIN"] == 1


async def test_a_probe_over_tcp() -> None:
    """Where all questions go over TCP."""
    async with ScriptedUpstream() as upstream:
        server = Server(("127.0.0.1", upstream.port), Manner(probe_tcp=True), Counters(), monotonic)
        server.failed()
        assert server._probing is not None
        await asyncio.wait_for(server._probing, 10)
        assert upstream.transports == ["tcp"]
