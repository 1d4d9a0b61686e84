"""The HTTP listeners for the pages of the control process.

The content of the pages is in `endpoints`, and the format of requests and responses in `http_message`. Rules:

1. An address may have several pages. Server blocks with the same address share a listener.
2. A change binds new addresses before it closes old ones.
3. Only GET and HEAD are answered, over a Unix socket also POST. Other methods get 405, and other paths 404.
4. The size of a request's header, the number of connections and the duration of a connection are bounded.
5. A page whose path ends with a slash also gets requests for all paths below, and for its path without the slash.
6. While a page that takes time is being made, further requests on its connection wait. If the client disconnects, the
   task that makes the page is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from svcdns.control.http_message import MalformedRequestError, Request, Response, parse
from svcdns.control.page_sockets import NONE_OPTIONAL, Address, HttpListenError, Optional, PageSockets, Watch, listen
from svcdns.control.unix_sockets import path_of
from svcdns.log_line import LogLine

Reply = Response | Coroutine[Any, Any, Response]
Page = Callable[[Request], Reply]
METHODS: Final = ("GET", "HEAD")
UNIX_METHODS: Final = (*METHODS, "POST")
SHUTDOWN: float = 1.0
"""The seconds in which clients must take their last replies when a listener is closed."""
MAX_CONNECTIONS: Final = 64
"""The most connections of a listener. One more closes the connection whose client was idle for the longest time."""
REQUEST_TIMEOUT: float = 10.0
"""The seconds that a client may take for a request, from its first octet or from the start of the connection."""
IDLE_TIMEOUT: float = 75.0
"""The seconds from a request to the end of its connection, if the client sends no other request."""
MAX_WAITING: Final = 65536
"""The octets of requests that may wait for a page before the connection is no longer read."""
PAGE_TIMEOUT: Final = 150.0
"""The seconds that a page may take until its response is made."""
LINGER: float = 1.0
"""The seconds for which the body of a request is read and ignored."""
POLL: Final = 0.01
"""Seconds between two checks whether clients have taken their last replies."""

log = logging.getLogger("svcdns")


class _Site:
    """The HTTP listener of one address. `pages` has the pages of this address by path."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.pages: dict[str, Page] = {}
        self._open: dict[_Connection, None] = {}
        """The open connections: first those whose clients have been idle for the longest time."""
        self._listeners: list[asyncio.Server] = []
        self.sockets: Sequence[socket.socket] = ()
        """The sockets that listen, until the site is closed."""

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        self.sockets = tuple(sockets)
        for sock in sockets:
            self._listeners.append(await loop.create_server(lambda: _Connection(self.reply, self._open), sock=sock))

    @property
    def listens(self) -> bool:
        """Returns True if the address could be bound."""
        return bool(self._listeners)

    @property
    def port(self) -> int:
        """Returns the port of the listener. For an address with port 0, the kernel has chosen it."""
        return int(self._listeners[0].sockets[0].getsockname()[1])

    async def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        for connection in tuple(self._open):
            connection.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SHUTDOWN
        while self._open and loop.time() < deadline:
            await asyncio.sleep(POLL)
        for connection in tuple(self._open):
            connection.abort()

    def reply(self, request: Request) -> Reply:
        page = self._page(request.path)
        methods = METHODS if path_of(self.address[0]) is None else UNIX_METHODS
        if request.method not in methods:
            return Response(b"405 method not allowed\n", 405, allow=", ".join(methods))
        if page is None:
            return Response(b"404 page not found\n", 404)
        try:
            made = page(replace(request, listener=self.address[0]))
        except Exception:  # noqa: BLE001  logged; the client gets status 500
            return _failed(request)
        return made if isinstance(made, Response) else _guarded(request, made)

    def _page(self, path: str) -> Page | None:
        page = self.pages.get(path)
        if page is not None:
            return page
        below = (page for folder, page in self.pages.items() if folder.endswith("/") and f"{path}/".startswith(folder))
        return next(below, None)


async def _guarded(request: Request, making: Coroutine[Any, Any, Response]) -> Response:
    try:
        return await making
    except Exception:  # noqa: BLE001  logged; the client gets status 500
        return _failed(request)


def _failed(request: Request) -> Response:
    """Logs the exception that is being handled. Returns the response with status 500."""
    log.exception(LogLine("a page cannot be made", page=request.path))
    return Response(b"500 internal server error\n", 500)


class _Connection(asyncio.Protocol):
    """One connection: answers its requests in order, and closes itself at its time limit."""

    def __init__(self, reply: Callable[[Request], Reply], connections: dict[_Connection, None]) -> None:
        """`reply` makes the response to a request. `connections` are the open connections of the listener."""
        self._reply, self._connections = reply, connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = bytearray()
        self._waits = False
        """True after a request, until the first octet of the next one."""
        self._closing = False
        """True when no more requests are answered. What the client still sends is ignored."""
        self._full = False
        """True while the client does not take its replies. Then no further request is answered."""
        self._making: asyncio.Task[Response] | None = None
        """The page that is being made. Further requests are answered after it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the time limit. If there are too many connections, closes the one that has been idle longest."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._connections) >= MAX_CONNECTIONS:
            next(iter(self._connections)).abort()
        self._connections[self] = None
        self._limit(REQUEST_TIMEOUT)

    def connection_lost(self, _: Exception | None) -> None:
        """Removes this connection from the open connections."""
        self._connections.pop(self, None)
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._making is not None:
            self._making.cancel()

    def data_received(self, data: bytes) -> None:
        """Answers the complete requests. The first octet starts the time limit of a request."""
        if self._closing:
            return
        if self._waits:
            self._waits = False
            self._limit(REQUEST_TIMEOUT)
        self._received += data
        if self._making is not None and len(self._received) > MAX_WAITING and self._transport is not None:
            self._transport.pause_reading()
        self._answer()

    def pause_writing(self) -> None:
        """Stops reading requests while the client does not read its responses."""
        self._full = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Answers the requests that have waited, and reads again."""
        self._full = False
        if self._transport is not None and not self._transport.is_closing() and self._making is None:
            self._transport.resume_reading()
            self._answer()

    def close(self) -> None:
        """Closes the connection after the client has read its responses."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes the connection without waiting for the client."""
        self._connections.pop(self, None)
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _answer(self) -> None:
        while self._received and not self._closing and not self._full and self._making is None:
            try:
                found = parse(self._received)
            except MalformedRequestError:
                self._send(Response(b"400 bad request\n", 400), body=True, keeps_alive=False)
                self._end_after_body()
                return
            if found is None:
                return
            request, octets = found
            del self._received[:octets]
            self._has_request()
            response = self._reply(request)
            if isinstance(response, Response):
                self._respond(request, response)
            else:
                self._make(request, response)

    def _make(self, request: Request, response: Coroutine[Any, Any, Response]) -> None:
        """Makes a page that takes time, and sends it."""
        self._making = asyncio.get_running_loop().create_task(response)
        self._making.add_done_callback(lambda made: self._made(request, made))
        self._limit(PAGE_TIMEOUT)

    def _made(self, request: Request, made: asyncio.Task[Response]) -> None:
        self._making = None
        if made.cancelled() or self._closing:
            return
        self._waits = not self._received
        self._limit(IDLE_TIMEOUT if self._waits else REQUEST_TIMEOUT)
        self._respond(request, made.result())
        if self._transport is not None and not self._full and not self._transport.is_closing():
            self._transport.resume_reading()
        self._answer()

    def _respond(self, request: Request, response: Response) -> None:
        self._send(response, body=request.method != "HEAD", keeps_alive=request.keeps_alive)
        if request.has_body:
            self._end_after_body()
        elif not request.keeps_alive:
            self.close()

    def _send(self, response: Response, *, body: bool, keeps_alive: bool) -> None:
        if self._transport is not None:
            self._transport.write(response.encoded(body=body, keeps_alive=keeps_alive))

    def _end_after_body(self) -> None:
        """Sends no further response. Reads and ignores what the client sends during the next LINGER seconds.

        If the connection were closed now, a reset could remove the response before the client has read it.
        """
        self._closing = True
        self._received.clear()
        if self._transport is not None:
            self._transport.write_eof()
            self._limit(LINGER)

    def _has_request(self) -> None:
        """Called when a complete header has arrived.

        Starts the time limit for the response and the idle time after it.
        """
        self._connections.pop(self, None)
        self._connections[self] = None
        self._waits = not self._received
        self._limit(IDLE_TIMEOUT if self._waits else REQUEST_TIMEOUT)

    def _limit(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)


class HttpPages:
    """All HTTP listeners of the control process."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        """`pages` has the function that makes the page, by path."""
        self._pages = pages
        self._sites: dict[Address, _Site] = {}

    async def serve(
        self,
        wanted: Mapping[Address, frozenset[str]],
        sockets: PageSockets | None = None,
        optional: Optional = NONE_OPTIONAL,
        *,
        warns: bool = False,
    ) -> None:
        """Serves the paths in `wanted` at their addresses, and no other page.

        `sockets` has sockets that already listen; used sockets are removed from it. If an address cannot be bound,
        raises HttpListenError and changes nothing. An optional address that cannot be bound has no pages. With `warns`,
        logs a warning for each new port on which something else listens.
        """
        opened: list[_Site] = []
        watch = self._watch(wanted) if warns else None
        try:
            for address in wanted:
                if address not in self._sites or (address in optional and not self._sites[address].listens):
                    site = _Site(address)
                    ready = None if sockets is None else sockets.pop(address, None)
                    await site.open(await listen(address, optional, watch) if ready is None else ready)
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

    def _watch(self, wanted: Collection[Address]) -> Watch:
        kept = [sock for site in self._sites.values() if site.address in wanted for sock in site.sockets]
        closing = [sock for site in self._sites.values() if site.address not in wanted for sock in site.sockets]
        return Watch(kept, closing)

    def listens(self, address: Address) -> bool:
        """Returns True if the address is served."""
        return self._sites[address].listens

    def port(self, address: Address) -> int:
        """Returns the port of a served address. For port 0, this is the port that the kernel has chosen."""
        return address[1] or self._sites[address].port

    async def without(self, path: str) -> None:
        """Stops serving the page `path` on all addresses, and closes listeners that have no other page."""
        await self.serve(
            {address: left for address, site in self._sites.items() if (left := frozenset(site.pages) - {path})}
        )
