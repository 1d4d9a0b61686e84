"""Clients of a responder over TCP on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator
from typing import Any

import dns.message

from svcdns.eventloop.stream import SocketTransport
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.serving.transport.acceptor import Acceptor
from svcdns.serving.transport.connections import TcpConnections
from svcdns.serving.transport.tcp import TcpConnection
from tests.support.responder import ResponderSetup

LONG = Timeouts(60, 60, 60)


class Client:
    """A client with one TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *idents: int, cut: int = 0) -> None:
        """Sends pipelined queries, without the last `cut` octets."""
        data = b""
        for ident in idents:
            packet = dns.message.make_query("a.b.", "A", id=ident).to_wire()
            data += len(packet).to_bytes(2, "big") + packet
        self.writer.write(data[: len(data) - cut])

    async def reply(self) -> dns.message.Message:
        """Waits for the next reply, and returns it."""
        async with asyncio.timeout(10):
            size = int.from_bytes(await self.reader.readexactly(2), "big")
            return dns.message.from_wire(await self.reader.readexactly(size), one_rr_per_rrset=True)

    async def ended(self) -> bool:
        """Waits for the end of the connection. Returns whether it ended."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read() == b""
        return True


def listening() -> socket.socket:
    """Returns a TCP socket on loopback. The kernel chooses its port."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def no_sheds(_connections: int) -> None:
    """Asserts that the acceptor has dropped no connection."""
    raise AssertionError("connections were given up")


def no_errors(operation: str, error: OSError) -> None:
    """Takes an error of an acceptor, and expects none."""
    raise AssertionError(f"{operation}: {error}")


def buffered(connections: TcpConnections) -> int:
    """Returns the number of octets that wait in the buffers of all connections."""
    return sum(len(one._received) for one in connections.open if isinstance(one, TcpConnection))


@contextlib.asynccontextmanager
async def served(
    place: ResponderSetup,
    connections: TcpConnections,
    timeouts: Timeouts = LONG,
    *,
    buffers: int = 0,
) -> AsyncIterator[functools.partial]:  # type: ignore[type-arg]
    """Serves DNS over TCP, and yields a function that connects clients.

    `buffers` is the size of the socket's send buffer, for tests of clients that do not read.
    """
    loop = asyncio.get_running_loop()
    server = listening()
    address = server.getsockname()

    def start(sock: socket.socket, _: Any) -> None:
        SocketTransport(loop, sock, TcpConnection(place.responder, connections, timeouts))

    acceptor = Acceptor(server, start, no_sheds, no_errors)
    if buffers:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
    made: list[Client] = []

    async def connect(source: str = "127.0.0.1") -> Client:
        sock = socket.socket()
        sock.bind((source, 0))
        sock.setblocking(False)
        if buffers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        await loop.sock_connect(sock, address)
        client = Client(*await asyncio.open_connection(sock=sock))
        made.append(client)
        return client

    try:
        yield functools.partial(connect)
    finally:
        for client in made:
            client.writer.close()
        acceptor.stop()
        server.close()
        async with asyncio.timeout(10):
            while connections.open:
                await asyncio.sleep(0)
