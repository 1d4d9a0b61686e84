"""Exceptions of plugins' hooks. Each query still gets one reply, and each failure is logged and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import dns.message
import pytest

from svcdns.chain.client_classes import Classes
from svcdns.chain.routing import Route
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.wire.codes import Rcode
from tests.support import world
from tests.support.outside import NAME, PLAIN, Outside, query, replying, shape
from tests.support.responder import REPLY, ResponderSetup, bound
from tests.support.scripted_upstream import ScriptedUpstream
from tests.support.world import CLIENT, counted

PACKET = dns.message.make_query("a.b.", "A", id=7).to_wire()


def broken(*_: object) -> Any:
    """A hook that raises LookupError."""
    raise LookupError("on purpose")


def failures(place: ResponderSetup) -> float:
    """Returns the number of counted failures of hooks."""
    return counted(place.counters).get(("coredns_panics_total",), 0)


def rcodes(sent: list[bytes]) -> list[int]:
    return [wire[3] & 15 for wire in sent]


def answer_immediately(reply: Reply) -> Callable[[Query], Answer]:
    """Returns a chain that answers with `reply` immediately."""
    return lambda _query: reply


def answer_later(reply: Reply) -> Callable[[Query], Answer]:
    """Returns a chain that answers with a deferred reply."""

    def chain(_query: Query) -> Answer:
        later = Deferred()
        asyncio.get_running_loop().call_soon(later.set, reply)
        return later

    return chain


def answer_in_task(reply: Reply) -> Callable[[Query], Answer]:
    """Returns a chain whose reply is a coroutine."""

    async def wait() -> Reply:
        return reply

    def chain(_query: Query) -> Awaitable[Reply]:
        return wait()

    return chain


@pytest.mark.parametrize("chain", [answer_immediately, answer_later, answer_in_task])
async def test_an_observer_that_fails(
    chain: Callable[[Reply], Callable[[Query], Answer]], caplog: pytest.LogCaptureFixture
) -> None:
    place = ResponderSetup("udp")
    sent: list[bytes] = []
    seen: list[Any] = []
    observers = (broken, lambda *reply: seen.append(reply))
    place.listener.routes[b"\0"] = Route(b"\0", ".", chain(REPLY), counted=True, writer="t", observers=observers)
    for _ in range(2):
        place.responder.answer(PACKET, CLIENT, sent.append, 0.0)
        while place.in_flight:
            await asyncio.sleep(0)
    assert rcodes(sent) == [0, 0]
    assert len(seen) == failures(place) == 2
    assert len(place.table) == 1
    assert "LookupError: on purpose" in caplog.text
    assert place.responder.lookup(PACKET, CLIENT, 0.0) == sent[0]
    assert len(seen) == failures(place) == 3


def test_a_closest_encloser_that_fails() -> None:
    """`closest_encloser` raises after the negative answer was sent. The client must not get a second reply."""
    place = ResponderSetup("udp")
    sent: list[bytes] = []
    chain = answer_immediately(Reply(rcode=Rcode.NXDOMAIN, lifetime=UNTIL_CHANGED))
    place.listener.routes[b"\0"] = Route(b"\0", ".", chain, counted=True, writer="t", closest_encloser=broken)
    place.responder.answer(PACKET, CLIENT, sent.append, 0.0)
    assert rcodes(sent) == [Rcode.NXDOMAIN]
    assert failures(place) == 1


def test_a_rotation_that_fails() -> None:
    """No reply has been sent when the rotation raises, so the client gets SERVFAIL."""
    place = ResponderSetup("udp", Reply(answer=REPLY.answer, rotate=broken))
    sent: list[bytes] = []
    place.responder.answer(PACKET, CLIENT, sent.append, 0.0)
    assert rcodes(sent) == [Rcode.SERVFAIL]
    assert failures(place) == 1


def test_a_reply_that_cannot_be_encoded() -> None:
    """If even SERVFAIL cannot be encoded, the client gets no reply. Later queries are answered."""
    place = ResponderSetup("udp")
    sent: list[bytes] = []

    def chain(asked: Query) -> Answer:
        asked.edns = "no EDNS"  # type: ignore[assignment]
        return REPLY

    place.listener.routes[b"\0"] = Route(b"\0", ".", chain, counted=True, writer="t")
    place.responder.answer(PACKET, CLIENT, sent.append, 0.0)
    assert sent == [b""]
    assert failures(place) == 2
    place.listener.routes[b"\0"] = Route(b"\0", ".", place.chain, counted=True, writer="t")
    place.responder.answer(PACKET, CLIENT, sent.append, 0.0)
    assert rcodes(sent[1:]) == [0]


async def test_a_client_class_that_fails() -> None:
    class Handler(Plugin):
        name = "t"

        def client_class(self, address: str) -> str:
            raise OSError(address)

    place = ResponderSetup("udp")
    place.listener.classes = Classes([Handler(None, world.environment())])
    place.responder.serve(place.listener)
    with bound() as sock, bound() as client:
        reader = UdpReader(sock, place.responder, SocketErrors(place.counters, "t", place.clock), wildcard=False)
        for _ in range(3):
            client.sendto(PACKET, sock.getsockname())
            reader.drain()
            assert client.recv(512)[:4] == b"\0\7\x85\0"
    assert place.asked == 3
    assert len(place.table) == 0
    assert failures(place) >= 3


async def test_the_fast_path_fails_after_its_reply() -> None:
    """The counting of the reply raises. The client must not get a second reply."""
    async with ScriptedUpstream(replying(f"{NAME} 300 IN A 192.0.2.1")) as upstream:
        with Outside(PLAIN, upstream) as outside:
            assert outside.route.fast_path is not None
            outside.route.fast_path.increments = broken
            assert shape(await outside.ask(query()))[1] == "0"
            await asyncio.sleep(0)
            with pytest.raises(BlockingIOError):
                outside.client.recv(512)
            assert outside.increments()["coredns_panics_total",] == (1.0,)


async def test_a_fast_path_that_fails_before_its_reply() -> None:
    async with ScriptedUpstream(replying(f"{NAME} 300 IN A 192.0.2.1")) as upstream:
        with Outside(PLAIN, upstream) as outside:
            assert outside.route.fast_path is not None
            outside.route.fast_path.knows = broken
            assert shape(await outside.ask(query()))[1] == "0"
            assert outside.increments()["coredns_panics_total",] == (1.0,)
