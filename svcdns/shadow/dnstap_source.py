"""Reads the queries of clients from dnstap, as a server writes them: from a socket or from a file.

Rules:

1. A message needs the packet of the query, which servers write with the option `full`.
2. Queries that come from this process are left out. Otherwise each query to a server with dnstap would cause another
   query.
3. At most MAX_WAITING queries wait. Further queries are left out, so that the server is never delayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterator
from functools import cache
from typing import Final

from svcdns.shadow.asking import Server, address
from svcdns.shadow.errors import ShadowError
from svcdns.wire.codes import OPCODE_MASK, QR
from svcdns.wire.dnstap import DnstapMessage, from_wire
from svcdns.wire.frame_streams import Control, Frames, FrameStreamError, ReaderHandshake
from svcdns.wire.protobuf import ProtobufError

MAX_WAITING: Final = 10_000
"""The most queries from a socket that wait."""
_SCHEMES: Final = ("unix://", "tcp://")
_FROM_CLIENTS: Final = frozenset({1, 5})
"""The types AUTH_QUERY and CLIENT_QUERY."""
_ESCAPE: Final = bytes(4)

Own = Container[object]
"""The addresses and ports of this process."""


def is_socket(text: str) -> bool:
    """Returns True if `text` names a socket, and no file."""
    return text.startswith(_SCHEMES)


def is_dnstap(content: bytes) -> bool:
    """Returns True if the content of a file begins as Frame Streams."""
    return content.startswith(_ESCAPE)


def queries(content: bytes, left_out: Counter[str]) -> Iterator[bytes]:
    """Yields the queries in a file with Frame Streams. Raises ShadowError."""
    try:
        for frame in Frames().feed(content):
            if not isinstance(frame, Control) and (query := _query(frame, left_out, ())) is not None:
                yield query
    except FrameStreamError as error:
        raise ShadowError(f"the dnstap file cannot be read: {error}") from error


class OwnSockets:
    """The sockets from which queries are sent to the two servers."""

    def __init__(self, *servers: Server) -> None:
        self._servers = servers

    def __contains__(self, place: object) -> bool:
        """Returns True if `place` is the address, as octets, and the port of one of the sockets."""
        return any(place == (_packed(host), port) for server in self._servers for host, port in server.names if host)


@cache
def _packed(host: str) -> bytes:
    """Returns the octets of an address. A mapped IPv4 address is IPv4."""
    found = ipaddress.ip_address(host.partition("%")[0])
    return (getattr(found, "ipv4_mapped", None) or found).packed


class LiveQueries:
    """The queries that arrive over a socket. `left_out` has the number of unusable messages by reason."""

    def __init__(self, own: Own) -> None:
        """Leaves out queries from the addresses in `own`."""
        self.left_out: Counter[str] = Counter()
        self._own = own
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()

    def add(self, payload: bytes) -> None:
        """Adds the query of a data frame."""
        query = _query(payload, self.left_out, self._own)
        if query is None:
            return
        if self._waiting.qsize() >= MAX_WAITING:
            self.left_out["more queries than could be asked"] += 1
        else:
            self._waiting.put_nowait(query)

    def end(self) -> None:
        """Ends the queries, after those that wait."""
        self._waiting.put_nowait(None)

    async def take(self, timeout: float | None) -> bytes | None:
        """Returns the next query, or None if there are no more, or if none arrives within `timeout` seconds."""
        try:
            query = await asyncio.wait_for(self._waiting.get(), timeout)
        except TimeoutError:
            return None
        if query is None:
            self.end()  # for the next caller
        return query


@contextlib.asynccontextmanager
async def reading(place: str, own: Own, *, connects: bool) -> AsyncIterator[LiveQueries]:
    """Context manager for a socket `unix://PATH` or `tcp://HOST:PORT` to which servers connect.

    If `connects` is true, connects to a server that listens for readers. Raises ShadowError.
    """
    found, loop = LiveQueries(own), asyncio.get_running_loop()
    connections: set[_Connection] = set()

    def make() -> _Connection:
        return _Connection(found, connections, ends=connects)

    server: asyncio.Server | None = None
    try:
        if place.startswith("unix://"):
            path = place.removeprefix("unix://")
            if connects:
                await loop.create_unix_connection(make, path)
            else:
                server = await loop.create_unix_server(make, path)
        else:
            host, port = address(place.removeprefix("tcp://"))
            if connects:
                await loop.create_connection(make, host, port)
            else:
                server = await loop.create_server(make, host, port)
    except OSError as error:
        raise ShadowError(f"{place} cannot be opened: {error.strerror or error}") from error
    try:
        yield found
    finally:
        if server is not None:
            server.close()
        for connection in tuple(connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    """A connection to a server that writes dnstap messages."""

    def __init__(self, found: LiveQueries, connections: set[_Connection], *, ends: bool) -> None:
        self._found, self._connections, self._ends = found, connections, ends
        self._handshake = ReaderHandshake()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        try:
            payloads, out = self._handshake.receive(data)
        except FrameStreamError:
            self._found.left_out["a connection that is no dnstap"] += 1
            self._transport.abort()
            return
        for payload in payloads:
            self._found.add(payload)
        if out:
            self._transport.write(out)
        if self._handshake.finished:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's protocol
        self._connections.discard(self)
        if self._ends:
            self._found.end()

    def abort(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.abort()


def _query(payload: bytes, left_out: Counter[str], own: Own) -> bytes | None:
    """Returns the query in a data frame, with the id 0, or None. Counts unusable queries of clients."""
    try:
        message = from_wire(payload)
    except ProtobufError:
        left_out["a malformed dnstap message"] += 1
        return None
    if message is None or message.kind not in _FROM_CLIENTS or _is_own(message, own):
        return None
    packet = message.query
    if not packet:
        left_out["a message without the packet of the query (the server needs the option 'full')"] += 1
    elif len(packet) < 12:
        left_out["shorter than a header"] += 1
    elif int.from_bytes(packet[2:4], "big") & (QR | OPCODE_MASK):
        left_out["a reply, or no query by its opcode"] += 1
    else:
        return b"\0\0" + packet[2:]
    return None


def _is_own(message: DnstapMessage, own: Own) -> bool:
    return (message.query_address, message.query_port) in own
