"""DNS over HTTPS with HTTP/1.1, with TLS and in clear text."""

from __future__ import annotations

import asyncio

import pytest

from svcdns.plugin_api.tracing import Sampler
from tests.support.certificates import authority
from tests.support.encrypted import TIMEOUT, happens, packet, served, target


class Client:
    """A connection with HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Returns the status, the header fields and the body of the next response."""
        async with asyncio.timeout(TIMEOUT):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self._reader.readexactly(int(fields.get("content-length", "0")))
        return int(head[0].split()[1]), fields, body

    async def closed(self) -> bool:
        async with asyncio.timeout(TIMEOUT):
            return not await self._reader.read()


def post(wire: bytes, more: str = "") -> bytes:
    return f"POST /dns-query HTTP/1.1\r\nHost: a\r\n{more}Content-Length: {len(wire)}\r\n\r\n".encode() + wire


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@pytest.mark.parametrize("secured", [True, False], ids=["tls", "clear"])
async def test_queries_with_both_methods(secured: bool) -> None:
    """A connection is used for several requests, also if they are sent together."""
    async with served(secured=secured) as world:
        client = Client(*await world.open(authority().client() if secured else None))
        client.writer.write(post(packet()) + get(target(packet())) + get("/") + post(packet("c.d.")))
        found = [await client.response() for _ in range(4)]
        assert [status for status, _, _ in found] == [200, 200, 404, 200]
        assert found[0][1]["cache-control"] == "max-age=300"
        assert world.counted("coredns_dns_https_responses_total", "200") == 3


async def test_header_fields_of_a_trace() -> None:
    """The fields belong to the query of their request."""
    async with served(secured=False, sampler=Sampler(2)) as world:
        client = Client(*await world.open())
        for number in range(4):
            client.writer.write(post(packet(), f"X-B3-SpanId: {number}\r\nB3: x\r\nX-Other: 1\r\n"))
            assert (await client.response())[0] == 200
        client.writer.write(post(packet()) * 2)
        assert [(await client.response())[0] for _ in range(2)] == [200, 200]
        assert [dict(one) for one in world.headers] == [
            {b"x-b3-spanid": b"1", b"b3": b"x"}, {b"x-b3-spanid": b"3", b"b3": b"x"}, {},
        ]  # fmt: skip


async def test_a_request_in_pieces() -> None:
    async with served(secured=False) as world:
        client = Client(*await world.open())
        octets = post(packet(), "Expect: 100-continue\r\n")
        client.writer.write(octets[: -len(packet())])
        assert (await client.response())[0] == 100
        for octet in packet():
            client.writer.write(bytes([octet]))
        assert (await client.response())[0] == 200


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        pytest.param(b"rubbish\r\n\r\n", 400, id="rubbish"),
        pytest.param(b"GET /dns-query?dns=" + b"A" * 20_000, 400, id="long target"),
        pytest.param(post(b"")[:-2].replace(b"Content-Length: 0", b"Content-Length: 65536\r\n"), 400, id="long body"),
        pytest.param(post(packet(), "Connection: close\r\n"), 200, id="the client closes"),
    ],
)
async def test_the_connection_is_closed_after_the_response(octets: bytes, status: int) -> None:
    async with served(secured=False) as world:
        client = Client(*await world.open())
        client.writer.write(octets)
        found, fields, _ = await client.response()
        assert (found, fields["connection"]) == (status, "close")
        assert await client.closed()


async def test_finish_answers_what_is_in_flight() -> None:
    async with served(secured=False) as world:
        client = Client(*await world.open())
        client.writer.write(post(packet("a.slow.")))
        await happens(lambda: world.queries)
        world.listeners.connections.drain()
        world.release.set()
        assert (await client.response())[1]["connection"] == "close"
        assert await client.closed()


async def test_a_slow_request() -> None:
    async with served(secured=False) as world:
        client = Client(*await world.open())
        client.writer.write(post(packet())[:-4])
        await world.expire_unfinished()
        assert await client.closed()
        assert world.counted("svcdns_shed_total", "slow_query") == 1
