"""The checker against a server that is right, wrong, silent, or ends its connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from bench import checker as checking
from bench.asking import packet
from bench.checker import Checker, Question, questions
from bench.cluster import Cluster
from bench.truth import Truth
from bench.upstream import reply
from tests.support.server import free_port

WANTED = Question("www.site-3.example", packet("www.site-3.example"), lambda rcode, found, _sent, _came: rcode == 0 and len(found) == 1)
Answer = Callable[[bytes], bytes]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        if wire := self._answer(data):
            self._transport.sendto(wire, addr)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """A server's port; an empty answer is silence, and over TCP the end of the connection."""

    streams: list[asyncio.Task[None] | None] = []

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while wire := answer(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))):
                writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    port = free_port()
    server = await asyncio.start_server(stream, "127.0.0.1", port)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Datagrams(answer), local_addr=("127.0.0.1", port))
    try:
        yield port
    finally:
        transport.close()
        server.close()
        await asyncio.gather(*filter(None, streams))


async def asked(answer: Answer, enough: Callable[[Checker], bool]) -> Checker:
    """A checker that has asked until there was enough."""
    async with serving(answer) as port:
        checker = Checker(port, [WANTED], udp_rate=500, tcp_rate=500, connections=2)
        running = asyncio.create_task(checker.run())
        async with asyncio.timeout(10):
            while not enough(checker):
                await asyncio.sleep(0)
        checker.stop()
        await running
    return checker


async def test_right_answers_are_counted() -> None:
    """Over both transports."""
    checker = await asked(reply, lambda checker: min(checker.udp.answered, checker.tcp.answered) >= 5)
    for count in (checker.udp, checker.tcp):
        assert (count.lost, count.wrong, count.closed) == (0, 0, 0)
        assert count.asked == count.answered
        assert 0 < count.slowest < checking.PATIENCE


async def test_wrong_answers_are_told() -> None:
    """With the name and what came."""
    checker = await asked(lambda wire: reply(packet("nobody.test"))[:2] + reply(wire)[2:3] + b"\x83" + wire[4:], lambda c: c.udp.wrong >= 3)
    assert checker.udp.wrong >= 3
    assert "www.site-3.example" in checker.udp.examples[0]


async def test_silence_is_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the end of a connection is the loss of what was asked on it."""
    monkeypatch.setattr(checking, "PATIENCE", 0.05)
    checker = await asked(lambda _: b"", lambda checker: checker.udp.lost >= 2 and checker.tcp.cut >= 2)
    assert checker.udp.answered == checker.tcp.answered == 0
    assert checker.tcp.cut >= 2
    assert checker.tcp.closed >= 1  # with one connection more than one question may be lost


def test_questions_are_of_every_kind() -> None:
    """Of moving Services, steady ones, absent names and outside names; each knows what is right."""
    cluster = Cluster(50, 2)
    made = questions(cluster, Truth(cluster), cluster.headless(), 80)
    names = [question.name for question in made]
    assert sum(name.startswith("no-") for name in names) == sum(name.endswith(".example") for name in names) == 10
    absent = next(question for question in made if question.name.startswith("no-"))
    assert absent.right(3, frozenset(), 0.0, 0.0)
    assert not absent.right(0, frozenset({b"\n\0\0\1"}), 0.0, 0.0)
