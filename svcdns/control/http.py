"""HTTP listeners for the pages of the control process; each page is served on the addresses that the Corefile sets for
it.

The content of the pages is in `endpoints`. Rules:

1. An address may have several pages; server blocks with the same address share a listener.
2. A change binds new addresses before it closes old ones. Addresses that stay keep their listener.
3. A start may pass sockets that already listen (`page_sockets`).
4. A request changes nothing. Only GET and HEAD are answered; other methods are 405, and other paths are 404.
5. The size of a request's header, the number of connections and the time of a connection are bounded, because every Pod
   of the cluster can connect.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from svcdns.control.page_sockets import Address, HttpListenError, PageSockets, listen

Page = Callable[[web.Request], Awaitable[web.Response]]
SHUTDOWN: float = 1.0
MAX_HEADER_LINE: Final = 4096
"""The most octets of the request line, and of each line of the header."""
MAX_CONNECTIONS: Final = 64
"""The most connections of a listener. One more closes the connection whose client was idle for the longest time."""
REQUEST_TIMEOUT: float = 10.0
"""The seconds that a client may take for a request, from its first octet or from the start of the connection."""
IDLE_TIMEOUT: float = 75.0
"""The seconds from a request to the end of its connection, if the client sends no other request."""
LINGER: Final = 1.0
"""The seconds for which the body of a request is read and ignored."""


log = logging.getLogger("svcdns")
_silent: Final = logging.getLogger("svcdns.http.malformed")
"""Gets a line with a traceback for each malformed request. Clients must not be able to fill the log."""
_silent.disabled = True


class _Site:
    """The HTTP listener of one address. `pages` maps each path to the page that is served at this address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.pages: dict[str, Page] = {}
        self._open: dict[_Connection, None] = {}
        """The open connections: first those whose clients have been idle for the longest time."""
        self._listeners: list[asyncio.Server] = []
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_silent,
            shutdown_timeout=SHUTDOWN,
            keepalive_timeout=IDLE_TIMEOUT,
            lingering_time=LINGER,
            max_line_size=MAX_HEADER_LINE,
            max_field_size=MAX_HEADER_LINE,
        )

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._listeners.append(await loop.create_server(self._connection, sock=sock))

    @property
    def port(self) -> int:
        """The port on which the listener accepts connections. For an address with port 0, the kernel has chosen it."""
        return int(self._listeners[0].sockets[0].getsockname()[1])

    async def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        await self._runner.cleanup()

    def _connection(self) -> _Connection:
        server = self._runner.server
        assert server is not None
        return _Connection(server(), self._open)

    async def _handle(self, request: web.Request) -> web.Response:
        connection = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(connection, _Connection):
            connection.has_request()
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404, text="404 page not found\n")
        try:
            return await page(request)
        except Exception:
            log.exception("The page %s cannot be made", request.path)
            return web.Response(status=500, text="500 internal server error\n")


class _Connection(asyncio.Protocol):
    """One connection: passes everything to the protocol of aiohttp, and closes the connection at its time limit."""

    def __init__(self, protocol: asyncio.Protocol, connections: dict[_Connection, None]) -> None:
        """`protocol` is that of aiohttp; `connections` are the open connections of the listener."""
        self._protocol, self._connections = protocol, connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False
        """True after a request, until the first octet of the next one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the time limit. If there are too many connections, closes the one that was idle longest."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._connections) >= MAX_CONNECTIONS:
            next(iter(self._connections)).abort()
        self._connections[self] = None
        self._limit(REQUEST_TIMEOUT)
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Removes the connection from the list."""
        self._connections.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes octets of a request on. The first octet starts the time limit of the request."""
        if self._waits:
            self._waits = False
            self._limit(REQUEST_TIMEOUT)
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Passes the end of the client's octets on."""
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Tells aiohttp that the client does not take the reply."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Tells aiohttp that the client takes the reply again."""
        self._protocol.resume_writing()

    def has_request(self) -> None:
        """Called when the client has sent a whole header. One time limit begins, for the reply and the idle time after
        it.
        """
        self._connections.pop(self, None)
        self._connections[self] = None
        self._waits = True
        self._limit(IDLE_TIMEOUT)

    def abort(self) -> None:
        """Closes the connection at once."""
        self._connections.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def _limit(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)


class HttpPages:
    """All HTTP listeners of the control process."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        """`pages` maps each path to the function that makes the page."""
        self._pages = pages
        self._sites: dict[Address, _Site] = {}

    async def serve(self, wanted: Mapping[Address, frozenset[str]], sockets: PageSockets | None = None) -> None:
        """Serves the paths in `wanted` on their addresses, and no other page.

        `sockets` has sockets that already listen. They are removed from it when they are used. Raises HttpListenError
        if an address cannot be bound; then nothing has changed.
        """
        opened: list[_Site] = []
        try:
            for address in wanted:
                if address not in self._sites:
                    site = _Site(address)
                    ready = None if sockets is None else sockets.pop(address, None)
                    await site.open(await listen(address) if ready is None else ready)
                    opened.append(site)
        except HttpListenError:
            for site in opened:
                await site.close()
            raise
        self._sites |= {site.address: site for site in opened}
        for address, site in list(self._sites.items()):
            if address in wanted:
                site.pages = {path: self._pages[path] for path in wanted[address]}
            else:
                del self._sites[address]
                await site.close()

    def port(self, address: Address) -> int:
        """Returns the port of a served address; for port 0, the free port that the kernel has chosen."""
        return address[1] or self._sites[address].port

    async def without(self, path: str) -> None:
        """Stops serving the page `path` on all addresses, and closes listeners that have no other page."""
        await self.serve(
            {address: left for address, site in self._sites.items() if (left := frozenset(site.pages) - {path})}
        )
