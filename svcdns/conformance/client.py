"""Sends packets to the server under test and receives replies. Every operation has a time limit, so that no server can
block the suite.

Over UDP each query has its own, unconnected socket, so that a reply from another address is noticed. Over TCP two
octets of length precede each message (RFC 1035 §4.2.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

from svcdns.conformance.errors import ConformanceError

Peer = tuple[str, int]


class NoReply(Exception):
    """No reply within the time limit. The text has the transport and the time."""


class Server:
    """The server under test.

    `timeout` is the seconds of one try, `tries` the number of times a UDP query is sent. `no_reply_timeout` is the
    seconds to wait where no reply is expected.
    """

    def __init__(
        self, host: str, port: int, *, timeout: float = 2.0, tries: int = 3, no_reply_timeout: float = 0.5
    ) -> None:
        self.host, self.port, self.timeout, self.tries, self.no_reply_timeout = (
            host,
            port,
            timeout,
            tries,
            no_reply_timeout,
        )
        self._address: Any = None
        self._family = socket.AF_INET

    async def resolve(self) -> None:
        """Resolves the host. Raises ConformanceError."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise ConformanceError(f"--server {self.host}: {error.strerror or error}") from error
        self._family, _, _, _, self._address = found[0]

    @property
    def address(self) -> Peer:
        """The address and port from which replies must come."""
        return str(self._address[0]), int(self._address[1])

    async def udp(self, packet: bytes, *, tries: int | None = None, wait: float | None = None) -> tuple[bytes, Peer]:
        """The first datagram that arrives, and its sender. Raises NoReply, also if the port is closed."""
        tries, wait = tries or self.tries, wait or self.timeout
        for _ in range(tries):
            with contextlib.suppress(TimeoutError):
                return await self._udp_once(packet, wait)
        raise NoReply(f"no reply over UDP: {tries} {'try' if tries == 1 else 'tries'} of {wait:g} s")

    async def udp_together(self, packets: Sequence[bytes]) -> list[bytes]:
        """The replies to packets sent at once from one socket, as musl's resolver does. Raises NoReply."""
        for _ in range(self.tries):
            with contextlib.suppress(TimeoutError):
                async with self._datagrams() as sock, asyncio.timeout(self.timeout):
                    for packet in packets:
                        await self._send(sock, packet)
                    missing, found = {packet[:2] for packet in packets}, []
                    while missing:
                        data, _ = await self._receive(sock)
                        if data[:2] in missing:
                            missing.discard(data[:2])
                            found.append(data)
                    return found
        raise NoReply(
            f"not all of {len(packets)} queries sent from one socket were answered: {self.tries} tries of {self.timeout:g} s"
        )

    async def tcp(self, chunks: Sequence[bytes], replies: int, *, pause: float = 0.0) -> list[bytes]:
        """Receives `replies` replies on one connection on which it sent `chunks`, with a pause after each. Raises
        NoReply.
        """
        async with self.connection() as connection:
            for chunk in chunks:
                await connection.send(chunk)
                if pause:
                    await asyncio.sleep(pause)
            return [await connection.receive() for _ in range(replies)]

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A TCP connection. Raises NoReply if it cannot be opened."""
        host, port = self.address
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await asyncio.open_connection(host, port)
        except (TimeoutError, OSError) as error:
            raise NoReply(f"no TCP connection: {error or 'timed out'}") from error
        try:
            yield Connection(reader, writer, self.timeout)
        finally:
            writer.transport.abort()

    async def _udp_once(self, packet: bytes, wait: float) -> tuple[bytes, Peer]:
        async with self._datagrams() as sock, asyncio.timeout(wait):
            await self._send(sock, packet)
            while True:
                data, peer = await self._receive(sock)
                if data[:2] == packet[:2] or len(packet) < 2 or peer == self.address:
                    return data, peer

    @contextlib.asynccontextmanager
    async def _datagrams(self) -> AsyncIterator[socket.socket]:
        with socket.socket(self._family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            yield sock

    async def _send(self, sock: socket.socket, packet: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendto(sock, packet, self._address)
        except OSError as error:
            raise NoReply(f"cannot send: {error.strerror or error}") from error

    async def _receive(self, sock: socket.socket) -> tuple[bytes, Peer]:
        data, peer = await asyncio.get_running_loop().sock_recvfrom(sock, 65535)
        return data, (str(peer[0]), int(peer[1]))


class Connection:
    """An open connection. Sending and receiving have a time limit and raise NoReply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self._reader, self._writer, self._timeout = reader, writer, timeout

    async def send(self, octets: bytes) -> None:
        """Sends octets as they are."""
        try:
            async with asyncio.timeout(self._timeout):
                self._writer.write(octets)
                await self._writer.drain()
        except (TimeoutError, OSError) as error:
            raise NoReply(f"cannot send over the TCP connection: {error or 'timed out'}") from error

    async def receive(self) -> bytes:
        """The next message."""
        try:
            async with asyncio.timeout(self._timeout):
                size = int.from_bytes(await self._reader.readexactly(2), "big")
                return await self._reader.readexactly(size)
        except TimeoutError:
            raise NoReply(f"no reply over TCP in {self._timeout:g} s") from None
        except (OSError, asyncio.IncompleteReadError):
            raise NoReply("the server closed the TCP connection before its reply") from None
