"""An HTTP/1.1 client for requests to APIs and ACME servers, over TCP, TLS or a Unix socket, also through a proxy.

The client follows no redirects, stores no cookies and retries nothing. Rules:

1. A connection has one request at a time. The connection is used again only if the response has been read to its end.
2. Every wait for the server has a time limit.
3. If an address does not answer, the next address of the same name is tried after STAGGER (RFC 8305).
4. Every failure is an OSError: ConnectError, `ssl.SSLError`, TimeoutError, or ResponseError.

Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

import h11

from svcdns import __version__
from svcdns.sources.api.chunks import ChunkError, ChunkReader

BUFFER: Final = 1 << 18
"""Octets that are received ahead. If there are more, the connection is not read until some have been used."""
MAX_HEAD: Final = 1 << 16
"""The most octets of a response header, of a line with the size of a chunk, and of a trailer."""
IDLE_TIMEOUT: Final = 15.0
"""Seconds after which an unused connection is not used again; servers close such connections."""
STAGGER: Final = 0.25
"""Seconds from the begin of a connection to one address until the next address is tried, too."""

_PORTS: Final = {"http": 80, "https": 443}


class ConnectError(ConnectionError):
    """Raised if no connection could be made. The text of the error has the address and the reason."""


class ResponseError(ConnectionError):
    """Raised for a response that is not HTTP/1, or that ended too early."""


class Target(NamedTuple):
    """The URL of a request, the TLS settings for https, the URL of a proxy, and the path of a Unix socket.

    If `tls` is None, the certificate authorities of the system are trusted. `server_hostname` is the name in the
    server's certificate, if it is not the host of the URL. With `socket`, the connection goes to the Unix socket, and
    not to the host of the URL.
    """

    url: str
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None
    socket: str | None = None

    @property
    def place(self) -> Target:
        """Returns the target without the path of its URL. Targets with the same place can use the same connection."""
        return self._replace(url="/".join(self.url.split("/", 3)[:3]))


Take = Callable[[bytes], Awaitable[None] | None]
"""Takes octets of a body. If it returns an awaitable, the next octets wait until that is done."""


class _Follower:
    """Passes the content of a chunked body to `take`, in the callback that receives the octets."""

    def __init__(self, take: Take, on_hold: Callable[[], None]) -> None:
        """`on_hold` is called when octets must wait until `work` is done."""
        self.chunks, self._take, self._on_hold = ChunkReader(), take, on_hold
        self.work: Awaitable[None] | None = None
        self.done = asyncio.get_running_loop().create_future()
        """Done when there is work to wait for, and at the end of the body. Has the exceptions of `take`."""
        self.heard = asyncio.get_running_loop().time()

    def receive(self, octets: bytes) -> None:
        """Adds octets of the body."""
        self.heard = asyncio.get_running_loop().time()
        self.chunks.feed(octets)
        if not self.done.done():
            self.go_on()

    def go_on(self) -> None:
        """Passes on the content that has arrived."""
        try:
            while piece := self.chunks.next():
                self.work = self._take(piece)
                if self.work is not None:
                    self._on_hold()
                    break
            else:
                if not self.chunks.ended:
                    return
        except ChunkError as error:
            self.fail(ResponseError(f"no response of HTTP/1: {error}"))
        except Exception as error:  # noqa: BLE001 - raised where the body is awaited
            self.fail(error)
        else:
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Ends the body with an exception."""
        if not self.done.done():
            self.done.set_exception(error)


class _Stream(asyncio.Protocol):
    """The stream of a connection. At most BUFFER octets are received in advance."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._follower: _Follower | None = None
        self.http = _new_state()
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Stores octets for the reader, or passes them to the follower."""
        if self._follower is not None:
            self._follower.receive(data)
            return
        self._received += data
        if len(self._received) > BUFFER and self.transport is not None:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()
        self._end_follower()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, exc
        self._wake()
        self._end_follower()

    def _end_follower(self) -> None:
        if self._follower is not None:
            self._follower.fail(self._early_end())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def open(self) -> bool:
        """Returns True if the connection is open, and no unread octets have arrived."""
        return not self._ended and not self._received

    @property
    def reusable(self) -> bool:
        """Returns True if the connection is open, and the last response has been read to its end."""
        done = self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
        return done and self.open and not self.http.trailing_data[0]

    def send(self, method: str, target: str, fields: Mapping[str, str], body: bytes = b"") -> None:
        """Sends a request. If the connection fails, the next read raises the error.

        Raises ResponseError if a header field has a character that may not be sent.
        """
        if body:
            fields = {**fields, "Content-Length": str(len(body))}
        try:
            octets = self.http.send(h11.Request(method=method, target=target, headers=[*fields.items()])) or b""
            octets += self.http.send(h11.Data(data=body)) or b"" if body else b""
            octets += self.http.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise ResponseError(f"the request cannot be sent: {error}") from error
        if self.transport is not None:
            self.transport.write(octets)

    async def event(self, silence: float) -> object:
        """Returns the next part of a response: an event of the library h11.

        Waits at most `silence` seconds for octets. Raises OSError.
        """
        ended = False
        while True:
            try:
                event: object = self.http.next_event()
            except h11.RemoteProtocolError as error:
                raise self._early_end() if ended else ResponseError(f"no response of HTTP/1: {error}") from error
            if event is not h11.NEED_DATA:
                return event
            octets = await self._some(silence)
            ended = not octets
            self.http.receive_data(octets)

    async def follow(self, take: Take, silence: float) -> None:
        """Passes the content of a chunked body to `take` when it arrives, until the body ends.

        The header of the response must have been read before. Raises OSError, and the exceptions of `take`.
        """
        loop = asyncio.get_running_loop()
        follower = self._follower = _Follower(take, self._pause)
        timer: asyncio.TimerHandle | None = None

        def check() -> None:
            nonlocal timer
            left = follower.heard + silence - loop.time()
            if left <= 0:
                follower.fail(TimeoutError())
            timer = loop.call_later(max(left, 0.0), check) if left > 0 else None

        octets = self.http.trailing_data[0] + bytes(self._received)
        self._received.clear()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        check()
        try:
            follower.receive(octets)
            while True:
                if self._ended:
                    follower.fail(self._early_end())
                await follower.done
                work, follower.work = follower.work, None
                if work is None:
                    return
                await work
                follower.done, follower.heard = loop.create_future(), loop.time()
                if self.transport is not None and not self.transport.is_closing():
                    self.transport.resume_reading()
                follower.go_on()
        finally:
            self._follower = None
            if timer is not None:
                timer.cancel()

    def _pause(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    async def _some(self, silence: float) -> bytes:
        """Returns the octets that have arrived. Returns no octets only at the end of the connection."""
        if not self._received and not await self._more(silence):
            if self._error is not None:
                raise self._early_end()
            return b""
        found = bytes(self._received)
        self._received.clear()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        return found

    async def _more(self, silence: float) -> bool:
        """Waits for octets. Returns False at the end of the connection."""
        if self._ended:
            return False
        before = len(self._received)
        if self.transport is not None:
            self.transport.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(silence):
                await self._waiter
        finally:
            self._waiter = None
        return len(self._received) > before

    def _early_end(self) -> OSError:
        if isinstance(self._error, OSError):
            return self._error
        return ResponseError("the server has closed the connection before the end of the response")

    def close(self) -> None:
        """Closes the connection without waiting for the server."""
        if self.transport is not None:
            self.transport.abort()

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Negotiates TLS on the connection, as the client of the server `name`."""
        assert self.transport is not None
        transport = await asyncio.get_running_loop().start_tls(self.transport, self, context, server_hostname=name)
        if not isinstance(transport, asyncio.Transport):
            raise ResponseError("the server has closed the connection during the TLS handshake")
        self.transport = transport


class Response:
    """The header of a response, and methods to read its body. Names in `headers` are in lower case."""

    def __init__(self, stream: _Stream, status: int, reason: str, headers: Mapping[str, str], silence: float) -> None:
        """`silence` is the longest time, in seconds, to wait for octets of the body."""
        self.status, self.reason, self.headers = status, reason, headers
        self._stream, self._silence = stream, silence
        self.complete = False
        """True when the body has been read to its end."""

    @property
    def socket(self) -> socket.socket | None:
        """Returns the socket of the connection."""
        transport = self._stream.transport
        return transport.get_extra_info("socket") if transport is not None else None

    async def read(self, most: int | None = None) -> bytes:
        """Returns the body. With `most`, stops reading after at least `most` octets."""
        found, octets = [], 0
        async with contextlib.aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                found.append(piece)
                octets += len(piece)
                if most is not None and octets >= most:
                    break
        return b"".join(found)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yields the octets of the body as they arrive."""
        while isinstance(event := await self._stream.event(self._silence), h11.Data):
            yield bytes(event.data)
        self.complete = isinstance(event, h11.EndOfMessage)

    async def follow(self, take: Take) -> None:
        """Passes the octets of the body to `take` when they arrive, until the body ends.

        The event loop calls `take` when it reads the socket. The connection is not used again. Raises OSError, and the
        exceptions of `take`.
        """
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            await self._stream.follow(take, self._silence)
            return
        async for piece in self.pieces():
            work = take(piece)
            if work is not None:
                await work


class Session:
    """The connections to one server. A connection is used again if the place of the target stays the same."""

    def __init__(self, *, environment: bool = False, first: int = 0) -> None:
        """If `environment` is true, a target without a proxy uses the proxy from the environment variables.

        If the server's name has several addresses, the address with index `first` is tried first.
        """
        self._environment, self._first = environment, first
        self._idle: list[tuple[Target, _Stream]] = []
        self._busy: set[_Stream] = set()

    def get(
        self, target: Target, query: Mapping[str, str], headers: Mapping[str, str], *, head: float, silence: float
    ) -> contextlib.AbstractAsyncContextManager[Response]:
        """Sends a GET request, and yields the response, as `request` does."""
        return self.request("GET", target, query, headers, head=head, silence=silence)

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        target: Target,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        head: float,
        silence: float,
    ) -> AsyncIterator[Response]:
        """Sends a request, and yields the response. The body can be read only inside the context.

        The response header must arrive within `head` seconds, including the connection. Then each wait for octets lasts
        at most `silence` seconds. Raises OSError.
        """
        stream: _Stream | None = None
        response: Response | None = None
        try:
            async with asyncio.timeout(head):
                if target.proxy is None and target.socket is None and self._environment:
                    target = target._replace(proxy=_proxy_of_environment(urlsplit(target.url)))
                stream = await self._connected(target, silence)
                stream.send(method, *_request(target, query, headers), body)
                response = await _head(stream, silence)
            yield response
        finally:
            if stream is not None:
                self._busy.discard(stream)
                if response is not None and response.complete and stream.reusable:
                    stream.http.start_next_cycle()
                    stream.idle_since = asyncio.get_running_loop().time()
                    self._idle.append((target.place, stream))
                else:
                    stream.close()

    async def close(self) -> None:
        """Closes all connections."""
        for stream in (*self._busy, *(idle for _, idle in self._idle)):
            stream.close()
        self._idle.clear()
        self._busy.clear()
        await asyncio.sleep(0)  # the event loop closes the sockets

    async def _connected(self, target: Target, silence: float) -> _Stream:
        oldest, place = asyncio.get_running_loop().time() - IDLE_TIMEOUT, target.place
        while self._idle:
            before, stream = self._idle.pop()
            if before == place and stream.open and stream.idle_since >= oldest:
                break
            stream.close()
        else:
            stream = await _connect(target, self._first, silence)
        self._busy.add(stream)
        return stream


def _new_state() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)


def _proxy_of_environment(parts: SplitResult) -> str | None:
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    import urllib.request  # here, because it imports much, and few servers need it

    proxies = urllib.request.getproxies_environment()
    host = parts.hostname or ""
    without = any(
        urllib.request.proxy_bypass_environment(name, proxies)  # type: ignore[attr-defined]
        for name in (host, f"{host}:{_port(parts)}")
    )
    return None if without else proxies.get(parts.scheme)


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or _PORTS.get(parts.scheme, 80)
    except ValueError as error:
        raise ConnectError(f"connect {_authority(parts)}: not a port") from error


def _authority(parts: SplitResult) -> str:
    """Returns host and port of a URL, without user and password."""
    return parts.netloc.rpartition("@")[2]


def _basic(parts: SplitResult) -> str:
    """Returns the value of an Authorization field from the user and the password of a URL."""
    words = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(words.encode()).decode()}"


def _request(target: Target, query: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Returns the request target and the header fields of a request."""
    parts = urlsplit(target.url)
    path = parts.path or "/"
    if query:
        path += "?" + urlencode(query)
    fields = {"Host": _authority(parts), "Accept": "application/json", "User-Agent": f"svcdns/{__version__}"}
    if parts.username is not None:
        fields["Authorization"] = _basic(parts)
    if target.proxy is not None and parts.scheme == "http":
        path = f"http://{_authority(parts)}{path}"
        proxy = _proxy(target.proxy)
        if proxy.username is not None:
            fields["Proxy-Authorization"] = _basic(proxy)
    return path, {**fields, **headers}


async def _head(stream: _Stream, silence: float) -> Response:
    """Reads the header of a response. Interim responses (1xx) are ignored."""
    while isinstance(event := await stream.event(silence), h11.InformationalResponse):
        pass
    assert isinstance(event, h11.Response)
    headers: dict[str, str] = {}
    for octets, content in event.headers:
        name, value = octets.decode("latin-1"), content.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Response(stream, event.status_code, bytes(event.reason).decode("latin-1"), headers, silence)


def _proxy(url: str) -> SplitResult:
    return urlsplit(url if "://" in url else f"http://{url}")


async def _connect(target: Target, first: int, silence: float) -> _Stream:
    """Connects to the server of `target`, or to its proxy. Uses TLS if the URL has the scheme https."""
    server = urlsplit(target.url)
    entry = server if target.proxy is None else _proxy(target.proxy)
    sock = await _open_socket(entry.hostname or "", _port(entry), first) if target.socket is None else None
    stream = _Stream()
    try:
        loop = asyncio.get_running_loop()
        if sock is None:
            await loop.create_unix_connection(lambda: stream, target.socket)
        else:
            await loop.create_connection(lambda: stream, sock=sock)
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    try:
        if target.proxy is not None and entry.scheme == "https":
            await stream.start_tls(ssl.create_default_context(), entry.hostname or "")
        if target.proxy is not None and server.scheme == "https":
            await _tunnel(stream, server, entry, silence)
        if server.scheme == "https":
            context = target.tls if target.tls is not None else ssl.create_default_context()
            await stream.start_tls(context, target.server_hostname or server.hostname or "")
    except BaseException:
        stream.close()
        raise
    return stream


async def _tunnel(stream: _Stream, server: SplitResult, proxy: SplitResult, silence: float) -> None:
    """Requests that a proxy connects to the server (RFC 9110 §9.3.6)."""
    host = server.hostname or ""
    where = f"{f'[{host}]' if ':' in host else host}:{_port(server)}"
    fields = {"Host": where}
    if proxy.username is not None:
        fields["Proxy-Authorization"] = _basic(proxy)
    stream.send("CONNECT", where, fields)
    response = await _head(stream, silence)
    if not 200 <= response.status < 300:
        raise ResponseError(f"the proxy refuses a connection to {where}: {response.status} {response.reason}".rstrip())
    stream.http = _new_state()


async def _open_socket(host: str, port: int, first: int) -> socket.socket:
    """Returns a socket that is connected to one of the addresses of a host. Raises ConnectError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ConnectError(f"connect {host}:{port}: {reason.lower()}") from error
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    first %= max(1, len(addresses))
    waiting = _alternating(addresses[first:] + addresses[:first])
    connecting: set[asyncio.Task[socket.socket]] = set()
    failure = OSError("no address")
    try:
        while waiting or connecting:
            if waiting:
                connecting.add(asyncio.create_task(_connect_socket(*waiting.pop(0))))
            done, connecting = await asyncio.wait(
                connecting, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            made = [task.result() for task in done if task.exception() is None]
            for other in made[1:]:
                other.close()
            if made:
                return made[0]
            failures = [error for error in map(asyncio.Task.exception, done) if isinstance(error, OSError)]
            failure = failures[0] if failures else failure
    finally:
        for task in connecting:
            task.cancel()
            task.add_done_callback(_close_late)
    reason = os.strerror(failure.errno) if failure.errno else str(failure)
    raise ConnectError(f"connect {host}:{port}: {reason.lower()}") from failure


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """Closes the socket of a cancelled connection attempt that has succeeded nevertheless."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _alternating(
    addresses: Sequence[tuple[socket.AddressFamily, tuple[object, ...]]],
) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    """Returns the addresses with IPv4 and IPv6 in turn, beginning with the first address."""
    first = [one for one in addresses if one[0] == addresses[0][0]]
    other = [one for one in addresses if one[0] != addresses[0][0]]
    pairs = [one for pair in zip(first, other, strict=False) for one in pair]
    return pairs + first[len(other) :] + other[len(first) :]


async def _connect_socket(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
