"""Sends packets to the server under test, and receives its replies.

Every operation has a time limit. UDP sockets are not connected, so that the suite notices a reply from another address.
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
    """Raised if no reply arrived within the time limit."""


class Server:
    """The server under test.

    `timeout` is the time limit of one try in seconds. A UDP query is sent at most `tries` times. If no reply is
    expected, the suite waits for `no_reply_timeout` seconds.
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
        """Resolves the host name. Call it before any query. Raises ConformanceError."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise ConformanceError(f"--server {self.host}: {error.strerror or error}") from error
        self._family, _, _, _, self._address = found[0]

    @property
    def address(self) -> Peer:
        """Returns the address and port from which the server's replies must come."""
        return str(self._address[0]), int(self._address[1])

    async def udp(self, packet: bytes, *, tries: int | None = None, wait: float | None = None) -> tuple[bytes, Peer]:
        """Sends a packet over UDP. Returns the first datagram with the same ID or from the server's address, and its
        sender.

        Raises NoReply if no such datagram arrives in time, or if the port is closed.
        """
        tries, wait = tries or self.tries, wait or self.timeout
        for _ in range(tries):
            with contextlib.suppress(TimeoutError):
                return await self._udp_once(packet, wait)
        raise NoReply(f"no reply over UDP: {tries} {'try' if tries == 1 else 'tries'} of {wait:g} s")

    async def udp_together(self, packets: Sequence[bytes]) -> list[bytes]:
        """Sends all packets from one socket without waiting, as musl's resolver does. Returns the replies.

        Raises NoReply if a reply is missing.
        """
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
        """Sends `chunks` on one TCP connection, with `pause` seconds after each. Returns `replies` messages.

        Raises NoReply if fewer messages arrive.
        """
        async with self.connection() as connection:
            for chunk in chunks:
                await connection.send(chunk)
                if pause:
                    await asyncio.sleep(pause)
            return [await connection.receive() for _ in range(replies)]

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Context manager for a TCP connection. Raises NoReply if the connection cannot be opened."""
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
    """An open TCP connection. Sending and receiving have a time limit and raise NoReply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self._reader, self._writer, self._timeout = reader, writer, timeout

    async def send(self, octets: bytes) -> None:
        """Sends octets without a length before them."""
        try:
            async with asyncio.timeout(self._timeout):
                self._writer.write(octets)
                await self._writer.drain()
        except (TimeoutError, OSError) as error:
            raise NoReply(f"cannot send over the TCP connection: {error or 'timed out'}") from error

    async def receive(self) -> bytes:
        """Returns the next message, without its length."""
        try:
            async with asyncio.timeout(self._timeout):
                size = int.from_bytes(await self._reader.readexactly(2), "big")
                return await self._reader.readexactly(size)
        except TimeoutError:
            raise NoReply(f"no reply over TCP in {self._timeout:g} s") from None
        except (OSError, asyncio.IncompleteReadError):
            raise NoReply("the server closed the TCP connection before its reply") from None
