"""The plugin `grpc`, with gRPC servers in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from svcdns.plugin_api.reply import Reply
from svcdns.plugins.grpc import handler
from svcdns.plugins.grpc.handler import Grpc
from svcdns.upstream import dns_packet
from svcdns.wire.codes import CD, RD, Rcode
from tests.support import grpc_service, world
from tests.support.spans import KeptSpan

Answer = Callable[[dns.message.Message], bytes]
OTHER = Reply(rcode=Rcode.YXDOMAIN)


def answered(*addresses: tuple[str, str], rcode: str = "NOERROR", question: str = "") -> Answer:
    """Returns a function that answers a query with address records: pairs of a name and an address."""

    def answer(query: dns.message.Message) -> bytes:
        if question:
            query = dns.message.make_query(question, "A", id=query.id)
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.from_text(rcode))
        reply.answer = [dns.rrset.from_text(name, 60, "IN", "A", address) for name, address in addresses]
        return reply.to_wire()

    return answer


ADDRESS = answered(("www.test.", "192.0.2.1"))


class Upstreams:
    """gRPC servers, each with its answer, and the queries that they got."""

    def __init__(self) -> None:
        self.queries: list[tuple[int, dns.message.Message]] = []
        self.ports: list[int] = []

    def method(self, number: int, answer: Answer | Status | None) -> grpc_service.Method:
        async def method(stream: Any) -> None:
            query = dns.message.from_wire(dns_packet.from_packet(await stream.recv_message()))
            self.queries.append((number, query))
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, Status):
                raise GRPCError(answer, "x")
            assert answer is not None
            await stream.send_message(dns_packet.to_packet(answer(query)))

        return method


@asynccontextmanager
async def upstreams(*answers: Answer | Status | None) -> AsyncIterator[Upstreams]:
    """Runs one server for each answer. A status is an error of the call, and None is no answer."""
    made = Upstreams()
    async with asyncio.timeout(20), _running(made, answers):
        yield made


@asynccontextmanager
async def _running(made: Upstreams, answers: tuple[Answer | Status | None, ...]) -> AsyncIterator[None]:
    if not answers:
        yield
        return
    method = made.method(len(made.ports), answers[0])
    async with grpc_service.served({dns_packet.METHOD: method}) as port:
        made.ports.append(port)
        async with _running(made, answers[1:]):
            yield


@asynccontextmanager
async def plugin(made: Upstreams, *lines: str, behind: bool = True) -> AsyncIterator[Grpc]:
    """Makes the plugin with the servers of `made` as upstreams, in their order."""
    servers = " ".join(f"127.0.0.1:{port}" for port in made.ports)
    text = "\n ".join(("policy sequential", *lines))
    options = world.options("grpc", f"grpc test {servers} {{\n {text}\n}}")
    handlers: list[Any] = []
    one = Grpc(options, world.environment(peers=lambda _: tuple(handlers)))
    handlers += [one, object()] if behind else [one]
    try:
        yield one
    finally:
        for upstream in one._upstreams:
            upstream.stop()


async def ask(one: Grpc, name: str = "www.test.", following: Reply | None = None, **fields: Any) -> Reply:
    return await world.soon(world.handled(one, world.query(name, **fields), world.following(following)))


async def test_a_reply() -> None:
    """The query keeps its flags and options. The reply is counted."""
    async with upstreams(ADDRESS) as made, plugin(made) as one:
        reply = await ask(one, flags=RD | CD, edns=world.edns(dnssec_ok=True))
        assert world.summary(reply) == ["NOERROR", "www.test. 60 IN A 192.0.2.1"]
        assert reply.lifetime == 0
        ((_, query),) = made.queries
        assert (query.flags, query.ednsflags) == (dns.flags.RD | dns.flags.CD, dns.flags.DO)
        counted = world.counted(one._environment.counters)
    label = f"127.0.0.1:{made.ports[0]}"
    assert counted["coredns_grpc_requests_total", label] == 1
    assert counted["coredns_grpc_responses_total", "NOERROR", label] == 1
    assert counted["coredns_grpc_request_duration_seconds", label] == 1


async def test_names() -> None:
    """FROM covers names, `except` does not; the next plugin gets the others. A missing name is NXDOMAIN."""
    async with upstreams(Status.NOT_FOUND) as made, plugin(made, "except no.test") as one:
        for name, taken in [("www.test.", True), ("TEST.", True), ("a.no.test.", False), ("test.org.", False)]:
            assert (await ask(one, name, OTHER)).rcode == (Rcode.NXDOMAIN if taken else Rcode.YXDOMAIN)


async def test_from_itself_is_never_excepted() -> None:
    async with upstreams(Status.NOT_FOUND) as made, plugin(made, "except test") as one:
        assert (await ask(one, "test.", OTHER)).rcode == Rcode.NXDOMAIN
        assert (await ask(one, "a.test.", OTHER)).rcode == Rcode.YXDOMAIN


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Status.UNAVAILABLE, id="an error"),
        pytest.param(lambda _: b"", id="no octets"),
        pytest.param(lambda query: query.to_wire()[:2] + b"\x80\0\0\1\0\1\0\0\0\0\3www", id="cut off"),
    ],
)
async def test_the_next_upstream(broken: Any) -> None:
    """An upstream without a usable reply is followed by the next one, and its reply is not counted.

    In the trace of a query, each upstream has a span.
    """
    async with upstreams(broken, ADDRESS) as made, plugin(made) as one:
        span = KeptSpan("grpc")
        assert (await ask(one, span=span)).answer
        assert span.shown() == [("connect", f"127.0.0.1:{port}") for port in made.ports]
        assert [number for number, _ in made.queries] == [0, 1]
        label = f"127.0.0.1:{made.ports[0]}"
        assert ("coredns_grpc_requests_total", label) not in world.counted(one._environment.counters)


async def test_an_upstream_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next upstream is asked before the time of the query is over."""
    monkeypatch.setattr(handler, "ATTEMPT", 0.05)
    async with upstreams(None, ADDRESS) as made, plugin(made) as one:
        assert (await ask(one)).answer


async def test_no_upstream_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets SERVFAIL, or the reply of the next plugin with `fallthrough`."""
    monkeypatch.setattr(handler, "BUDGET", 0.2)
    async with upstreams(Status.UNAVAILABLE, None) as made:
        async with plugin(made) as one:
            reply = await ask(one, following=OTHER)
            assert world.summary(reply) == ["SERVFAIL"]
            assert reply.error == f"plugin/grpc: 127.0.0.1:{made.ports[1]}: no reply in time"
        async with plugin(made, "fallthrough") as one:
            assert (await ask(one, following=OTHER)).rcode == Rcode.YXDOMAIN
    monkeypatch.setattr(handler, "BUDGET", 0.0)
    async with plugin(made) as one:
        assert (await ask(one)).error == f"plugin/grpc: {handler.NO_HEALTHY}"


@pytest.mark.parametrize(
    ("lines", "behind", "rcode"),
    [
        pytest.param([], True, Rcode.NXDOMAIN, id="without"),
        pytest.param(["fallthrough"], True, Rcode.YXDOMAIN, id="all names"),
        pytest.param(["fallthrough other.test"], True, Rcode.NXDOMAIN, id="another zone"),
        pytest.param(["fallthrough"], False, Rcode.NXDOMAIN, id="no plugin follows"),
    ],
)
async def test_falling_through(lines: list[str], behind: bool, rcode: int) -> None:
    async with upstreams(answered(rcode="NXDOMAIN")) as made, plugin(made, *lines, behind=behind) as one:
        assert (await ask(one, following=OTHER)).rcode == rcode


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(answered(question="other.test"), id="another question"),
        pytest.param(lambda query: query.to_wire(), id="a query"),
    ],
)
async def test_a_reply_to_another_query(answer: Answer) -> None:
    """The client gets FORMERR, as in CoreDNS."""
    async with upstreams(answer) as made, plugin(made) as one:
        assert world.summary(await ask(one)) == ["FORMERR"]


async def test_records_that_do_not_belong_to_the_query() -> None:
    """They are removed, as *forward* does."""
    records = answered(("www.test.", "192.0.2.1"), ("bank.test.", "192.0.2.6"))
    async with upstreams(records) as made, plugin(made) as one:
        assert world.summary(await ask(one)) == ["NOERROR", "www.test. 60 IN A 192.0.2.1"]


async def test_too_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "MAX_IN_FLIGHT", 1)
    async with upstreams(None) as made, plugin(made) as one:
        waiting = asyncio.ensure_future(ask(one))
        while not made.queries:
            await asyncio.sleep(0.001)
        assert (await ask(one)).error == "plugin/grpc: too many queries wait for replies"
        waiting.cancel()


@pytest.mark.parametrize(
    ("policy", "orders"),
    [
        ("sequential", [[1, 2, 3], [1, 2, 3]]),
        ("round_robin", [[2, 1, 3], [3, 1, 2], [1, 2, 3], [2, 1, 3]]),
    ],
)
def test_policies(policy: str, orders: list[list[int]]) -> None:
    """The orders are those of CoreDNS."""
    in_order: Any = handler._policy(policy)
    assert [in_order([1, 2, 3]) for _ in orders] == orders
    shuffled: Any = handler._policy("random")
    assert {tuple(shuffled([1, 2])) for _ in range(99)} == {(1, 2), (2, 1)}
