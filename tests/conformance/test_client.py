"""The DNS client of the conformance suite: time limits, closed ports, and connections that end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from svcdns.conformance.client import NoReply, Server
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.queries import Query
from svcdns.wire.tcp_framing import framed

PACKET = Query("a.").packet(5)


async def server(port: int, timeout: float = 0.1) -> Server:
    out = Server("127.0.0.1", port, timeout=timeout, tries=2)
    await out.resolve()
    return out


@pytest.fixture
def unresponsive() -> Iterator[socket.socket]:
    """A UDP socket that never replies."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


async def test_timeouts_without_a_reply(unresponsive: socket.socket) -> None:
    """NoReply is raised, with the number of tries or the missing replies."""
    one = await server(unresponsive.getsockname()[1])
    with pytest.raises(NoReply, match=r"2 tries of 0.1 s"):
        await one.udp(PACKET)
    with pytest.raises(NoReply, match="not all of 2"):
        await one.udp_together([PACKET, Query("a.").packet(6)])
    with pytest.raises(NoReply, match="no TCP connection"):
        await one.tcp([framed(PACKET)], 1)


@pytest.mark.parametrize(
    ("sent", "text"),
    [(b"", "closed the TCP connection"), (b"\0\5ab", "closed the TCP connection")],
    ids=["at-once", "within"],
)
async def test_a_connection_that_ends(sent: bytes, text: str) -> None:
    """If the server closes the connection before the end of the reply, NoReply is raised."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(sent)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        one = await server(listening.sockets[0].getsockname()[1], 5)
        with pytest.raises(NoReply, match=text):
            await one.tcp([framed(PACKET)], 1)


async def test_timeout_on_a_connection() -> None:
    done = asyncio.Event()

    async def wait(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as listening:
        one = await server(listening.sockets[0].getsockname()[1])
        with pytest.raises(NoReply, match=r"no reply over TCP in 0.1 s"):
            await one.tcp([framed(PACKET)], 1)
        done.set()


async def test_no_such_host() -> None:
    """The error has the host name."""
    with pytest.raises(ConformanceError, match=r"--server nowhere\.invalid: "):
        await Server("nowhere.invalid", 53).resolve()
