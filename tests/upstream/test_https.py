"""Queries to an upstream over HTTPS, answered by this server's own listener in the same process."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from h2.errors import ErrorCodes

from svcdns.eventloop.clock import monotonic
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.serving.transport import doh, http2
from svcdns.serving.transport.https import Https
from svcdns.tls.material import Material
from svcdns.upstream.https import HttpsConnection
from svcdns.upstream.query import ExchangeError, Received, UpstreamQuery, as_message
from svcdns.upstream.tcp import ConnectionOptions, TcpQuery, UpstreamConnections
from svcdns.upstream.tls import ClientTls, TlsConnector
from svcdns.wire import names
from svcdns.wire.codes import RD
from tests.support.certificates import authority
from tests.support.encrypted import Served, happens, served

ANSWER = "10.0.0.1"


class Querying:
    """Connections over HTTPS to a listener in this process."""

    def __init__(self, world: Served, method: str = "POST", alpn: tuple[str, ...] = ("h2",)) -> None:
        tls = ClientTls(Material(authorities=authority().pem), lambda: None)
        address = ("127.0.0.1", world.port)
        self.connections = UpstreamConnections(
            address, ConnectionOptions(), monotonic, TlsConnector(address, "dns.test", tls, alpn=alpn),
            connection=partial(HttpsConnection, host="dns.test", method=method),
        )  # fmt: skip
        self.sent: list[TcpQuery] = []

    async def ask(self, name: str = "a.b.") -> str:
        """Returns the address in the answer, or the reason for the failure."""
        done: asyncio.Future[Received | ExchangeError] = asyncio.get_running_loop().create_future()
        self.sent.append(self.connections.send(UpstreamQuery(names.from_text(name), 1, 1, RD), done.set_result)[0])
        async with asyncio.timeout(10):
            outcome = await done
        if isinstance(outcome, ExchangeError):
            return str(outcome).partition(": ")[2]
        return ".".join(map(str, as_message(outcome).answer[0].rdata))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_queries_share_a_connection(method: str) -> None:
    """Their messages have the id 0 (RFC 8484 §4.1)."""
    async with served() as world:
        querying = Querying(world, method)
        assert await asyncio.gather(*(querying.ask(f"n{n}.b.") for n in range(40))) == [ANSWER] * 40
        assert await querying.ask() == ANSWER
        assert len(querying.connections) == 1
        assert {query.message_id for query in world.queries} == {0}
        querying.connections.stop()


async def test_a_status_that_is_no_reply() -> None:
    async with served(reply=lambda _query: Reply(dropped=True)) as world:
        querying = Querying(world)
        assert await querying.ask() == "HTTP status 500"
        querying.connections.stop()


async def test_a_reply_to_another_question_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as world:
        querying = Querying(world)
        dropped: list[str] = []
        querying.connections.dropped = lambda reason, _sent: dropped.append(reason)
        monkeypatch.setattr(
            doh, "ask", lambda _endpoint, packet, _client, send, _headers: send(200, packet[:-4] + b"\0\1\0\1", 0)
        )
        asking = asyncio.create_task(querying.ask("a.b.c."))
        await happens(lambda: dropped)
        asking.cancel()
        querying.connections.stop()


async def test_goaway() -> None:
    """Queries in flight are answered, and later ones use another connection."""
    async with served() as world:
        querying = Querying(world)
        slow = asyncio.create_task(querying.ask("a.slow."))
        await happens(lambda: world.queries)
        world.listeners.connections.drain()
        await happens(lambda: not len(querying.connections))
        assert await querying.ask() == ANSWER
        world.release.set()
        assert await slow == ANSWER
        querying.connections.stop()


async def test_a_cancelled_query_resets_its_stream() -> None:
    async with served() as world:
        querying = Querying(world)
        slow = asyncio.create_task(querying.ask("a.slow."))
        await happens(lambda: world.queries)
        querying.connections.cancel(querying.sent[0], timed_out=False)
        assert await querying.ask() == ANSWER
        world.release.set()
        assert await querying.ask("c.d.") == ANSWER
        slow.cancel()
        querying.connections.stop()


async def test_a_refused_stream_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, the query ends with an error."""
    async with served() as world:
        querying = Querying(world)
        monkeypatch.setattr(
            http2.Http2Connection, "_begin", lambda self, event: self._reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
        )
        assert await querying.ask() == "the server refused the request"
        querying.connections.stop()


async def test_a_server_without_http2(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as world:
        monkeypatch.setattr(Https, "alpn", ("http/1.1",))
        querying = Querying(world)
        assert await querying.ask() == "the server does not offer HTTP/2"
        querying.connections.stop()


async def test_a_long_reply_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def long(query: Query) -> Reply:
        return Reply(flags=query.reply_flags)

    async with served(reply=long) as world:
        querying = Querying(world)
        dropped: list[str] = []
        querying.connections.dropped = lambda reason, _sent: dropped.append(reason)
        monkeypatch.setattr(doh, "ask", lambda _endpoint, _packet, _client, send, _headers: send(200, bytes(65_536), 0))
        asking = asyncio.create_task(querying.ask())
        await happens(lambda: dropped)
        asking.cancel()
        querying.connections.stop()
