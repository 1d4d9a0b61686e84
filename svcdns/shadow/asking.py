"""Sends queries to one server over one UDP socket, and over TCP after a truncated reply (RFC 7766)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from svcdns.shadow.errors import ShadowError
from svcdns.wire.codes import TC

MAX_IDS: Final = 65536
MAX_NAMES: Final = 256


class Received(NamedTuple):
    """A reply without its id, and the seconds until it arrived. `octets` is None if no reply arrived."""

    octets: bytes | None
    seconds: float


class Server(asyncio.DatagramProtocol):
    """A server to which queries are sent. Replies are matched to queries by their ids."""

    def __init__(self, host: str, port: int, timeout: float, tries: int) -> None:
        """`timeout` is the number of seconds to wait for one reply. A query is sent at most `tries` times."""
        self.host, self.port, self._timeout, self._tries = host, port, timeout, tries
        self._udp_name = ("", 0)
        self._tcp_names: deque[tuple[str, int]] = deque(maxlen=MAX_NAMES)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next = 0
        self._transport: Any = None

    @property
    def names(self) -> tuple[tuple[str, int], ...]:
        """Returns the addresses and ports of the sockets that queries were sent from: the last MAX_NAMES over TCP."""
        return self._udp_name, *self._tcp_names

    def connection_made(self, transport: Any) -> None:
        """Stores the socket."""
        self._transport = transport
        self._udp_name = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the socket is connected
        """Passes a reply to the query with the same id."""
        waiting = self._waiting.get(int.from_bytes(data[:2], "big")) if len(data) > 2 else None
        if waiting is not None and not waiting.done():
            waiting.set_result(data)

    def error_received(self, exc: Exception) -> None:
        """Does nothing. A packet that the kernel reports as undeliverable counts as a query without a reply."""

    async def ask(self, query: bytes) -> Received:
        """Sends a query whose id is 0, and returns the reply."""
        started = time.perf_counter()
        for _ in range(self._tries):
            found = await self._once(query)
            if found is not None:
                if int.from_bytes(found[2:4], "big") & TC:
                    found = await self._over_tcp(query) or found
                return Received(found[2:], time.perf_counter() - started)
        return Received(None, time.perf_counter() - started)

    async def _once(self, query: bytes) -> bytes | None:
        ident = self._free_id()
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[ident] = waiting
        try:
            self._transport.sendto(ident.to_bytes(2, "big") + query[2:])
            return await asyncio.wait_for(waiting, self._timeout)
        except TimeoutError:
            return None
        finally:
            del self._waiting[ident]

    def _free_id(self) -> int:
        while self._next in self._waiting:
            self._next = (self._next + 1) % MAX_IDS
        ident = self._next
        self._next = (self._next + 1) % MAX_IDS
        return ident

    async def _over_tcp(self, query: bytes) -> bytes | None:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                self._tcp_names.append(writer.get_extra_info("sockname")[:2])
                try:
                    writer.write(len(query).to_bytes(2, "big") + query)
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    return await reader.readexactly(length)
                finally:
                    writer.transport.abort()
        return None


@contextlib.asynccontextmanager
async def asking(text: str, timeout: float, tries: int) -> AsyncIterator[Server]:
    """Context manager for the socket to the server `HOST[:PORT]`. Raises ShadowError."""
    host, port = address(text)
    loop = asyncio.get_running_loop()
    try:
        transport, server = await loop.create_datagram_endpoint(
            lambda: Server(host, port, timeout, tries), remote_addr=(host, port)
        )
    except (OSError, socket.gaierror) as error:
        raise ShadowError(f"{text} cannot be queried: {error.strerror or error}") from error
    try:
        yield server
    finally:
        transport.close()


def address(text: str) -> tuple[str, int]:
    """Parses `HOST`, `HOST:PORT`, `[IPv6]:PORT` or an IPv6 address into host and port. Raises ShadowError."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(text)), 53
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "53"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ShadowError(f"'{text}': HOST or HOST:PORT was expected")
    return host, int(port)
