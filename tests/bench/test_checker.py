"""The bench's checker of replies, against servers with correct, wrong or no replies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from bench import checker as checking
from bench.checker import Checker, Query, queries
from bench.client import make_query
from bench.cluster import Cluster
from bench.endpoint_history import EndpointHistory
from bench.upstream import reply
from tests.support.server import free_port

WANTED = Query(
    "www.site-3.example",
    make_query("www.site-3.example"),
    lambda rcode, found, _sent, _received: rcode == 0 and len(found) == 1,
)
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
    """Runs a server and yields its port. If `answer` returns no octets, the server does not reply."""

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
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(answer), local_addr=("127.0.0.1", port)
    )
    try:
        yield port
    finally:
        transport.close()
        server.close()
        await asyncio.gather(*filter(None, streams))


async def checked(answer: Answer, enough: Callable[[Checker], bool]) -> Checker:
    """Runs a checker against a server until `enough` returns True. Returns the checker."""
    async with serving(answer) as port:
        checker = Checker(port, [WANTED], udp_rate=500, tcp_rate=500, connections=2)
        running = asyncio.create_task(checker.run())
        async with asyncio.timeout(10):
            while not enough(checker):
                await asyncio.sleep(0)
        checker.stop()
        await running
    return checker


async def test_correct_responses_are_counted() -> None:
    checker = await checked(reply, lambda checker: min(checker.udp.answered, checker.tcp.answered) >= 5)
    for count in (checker.udp, checker.tcp):
        assert (count.lost, count.wrong, count.closed) == (0, 0, 0)
        assert count.sent == count.answered
        assert 0 < count.slowest < checking.TIMEOUT


@pytest.mark.slow
async def test_wrong_responses_are_reported() -> None:
    """The report has the query name of one wrong reply as an example."""
    checker = await checked(
        lambda wire: reply(make_query("nobody.test"))[:2] + reply(wire)[2:3] + b"\x83" + wire[4:],
        lambda c: c.udp.wrong >= 3,
    )
    assert checker.udp.wrong >= 3
    assert "www.site-3.example" in checker.udp.examples[0]


async def test_unanswered_queries_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server closes a TCP connection, the outstanding queries are lost."""
    monkeypatch.setattr(checking, "TIMEOUT", 0.05)
    checker = await checked(lambda _: b"", lambda checker: checker.udp.lost >= 2 and checker.tcp.cut >= 2)
    assert checker.udp.answered == checker.tcp.answered == 0
    assert checker.tcp.cut >= 2
    assert checker.tcp.closed >= 1  # a connection may lose several queries at once


def test_queries_of_every_kind() -> None:
    """The kinds are changing Services, other Services, nonexistent names and external names."""
    cluster = Cluster(50, 2)
    made = queries(cluster, EndpointHistory(cluster), cluster.headless(), 80)
    names = [query.name for query in made]
    assert sum(name.startswith("no-") for name in names) == sum(name.endswith(".example") for name in names) == 10
    nxdomain = next(query for query in made if query.name.startswith("no-"))
    assert nxdomain.accepts(3, frozenset(), 0.0, 0.0)
    assert not nxdomain.accepts(0, frozenset({b"\n\0\0\1"}), 0.0, 0.0)
