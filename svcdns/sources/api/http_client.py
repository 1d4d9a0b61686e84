"""An HTTP/1.1 client for GET requests to the API server, over TCP or TLS, directly or through a proxy.

It has what the watches of a cluster need: connections that are used again, responses that are read in pieces, and time
limits. It follows no redirects, stores no cookies and retries nothing. svcdns has its own client because the import of
an HTTP library takes a fifth of a start, and its modules a tenth of the memory. Rules:

1. A connection has one request at a time. It is used again only if the response has been read to its end.
2. Every wait for the server has a time limit.
3. An address that does not answer delays the next address of the same name by STAGGER only (RFC 8305).

Every failure is an OSError: ConnectError, `ssl.SSLError`, TimeoutError, or ResponseError. Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

from svcdns import __version__

BUFFER: Final = 1 << 18
"""Octets that are received ahead. If there are more, the connection is not read until some have been used."""
MAX_HEAD: Final = 1 << 16
"""The most octets of a response header, of a line with the size of a chunk, and of a trailer."""
IDLE_TIMEOUT: Final = 15.0
"""Seconds after which an unused connection is not used again; servers close such connections."""
STAGGER: Final = 0.25
"""Seconds from the begin of a connection to one address until the next address is tried, too."""

_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_PORTS: Final = {"http": 80, "https": 443}
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f]")


class ConnectError(ConnectionError):
    """No connection could be made. `str(error)` names the address and the reason."""


class ResponseError(ConnectionError):
    """A response is not HTTP/1, or it ended too early."""


class Target(NamedTuple):
    """Where requests are sent, and how: a URL, the TLS settings for https, and the URL of a proxy.

    If `tls` is None, the certificate authorities of the system are trusted. `server_hostname` is the name in the
    server's certificate, if it is not the host of the URL.
    """

    url: str
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None


class _Stream(asyncio.Protocol):
    """The octets of a connection, which are received ahead up to BUFFER."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stores the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Stores octets for the reader."""
        self._received += data
        if len(self._received) > BUFFER and self.transport is not None:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Notes that the server has sent everything."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes the end of the connection."""
        self._ended, self._error = True, exc
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def reusable(self) -> bool:
        """True if the connection is open, and the server has sent nothing after the last response."""
        return not self._ended and not self._received

    def write(self, octets: bytes) -> None:
        """Sends octets. A failure is raised by the next read."""
        if self.transport is not None:
            self.transport.write(octets)

    async def line(self, end: bytes, silence: float) -> bytes:
        """Returns the octets before `end`, at most MAX_HEAD, and removes them and `end` from the buffer."""
        begin = 0
        while (at := self._received.find(end, begin)) < 0:
            if len(self._received) > MAX_HEAD:
                raise ResponseError("a header of the response is too long")
            begin = max(0, len(self._received) - len(end) + 1)
            if not await self._more(silence):
                raise self._early_end()
        found = bytes(self._received[:at])
        del self._received[: at + len(end)]
        return found

    async def some(self, most: int, silence: float) -> bytes:
        """Returns between 1 and `most` octets; b"" only at the end of the connection."""
        if not self._received and not await self._more(silence):
            if self._error is not None:
                raise self._early_end()
            return b""
        found = bytes(memoryview(self._received)[:most])
        del self._received[:most]
        if self.transport is not None and len(self._received) <= BUFFER and not self.transport.is_closing():
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
    """The header of a response, and its body, which is read on request. Names in `headers` are in lower case."""

    def __init__(self, stream: _Stream, status: int, reason: str, headers: Mapping[str, str], silence: float) -> None:
        """`silence` is the most seconds to wait for octets of the body."""
        self.status, self.reason, self.headers = status, reason, headers
        self._stream, self._silence = stream, silence
        self.complete = False
        """True when the body has been read to its end."""

    @property
    def socket(self) -> socket.socket | None:
        """The socket of the connection."""
        transport = self._stream.transport
        return transport.get_extra_info("socket") if transport is not None else None

    async def read(self, most: int | None = None) -> bytes:
        """Returns the whole body, or its first pieces with together at least `most` octets."""
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
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            pass
        elif coding := self.headers.get("transfer-encoding"):
            if coding.strip().lower() != "chunked":
                raise ResponseError(f"the transfer coding {coding[:40]!r} is unknown")
            async for piece in self._chunks():
                yield piece
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise ResponseError("the length of the response is unclear")
            async for piece in self._exactly(int(length)):
                yield piece
        else:
            while piece := await self._stream.some(BUFFER, self._silence):
                yield piece
        self.complete = True

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = _CHUNK.fullmatch(await self._stream.line(b"\r\n", self._silence))
            if size is None:
                raise ResponseError("a chunk of the response has no size")
            if not (octets := int(size[1], 16)):
                break
            async for piece in self._exactly(octets):
                yield piece
            if await self._stream.line(b"\r\n", self._silence):
                raise ResponseError("a chunk of the response is longer than its size")
        while await self._stream.line(b"\r\n", self._silence):
            pass  # a trailer

    async def _exactly(self, octets: int) -> AsyncIterator[bytes]:
        while octets:
            piece = await self._stream.some(min(octets, BUFFER), self._silence)
            if not piece:
                raise ResponseError("the server has closed the connection before the end of the response")
            octets -= len(piece)
            yield piece


class Session:
    """The connections to one server. They are used again if the target stays the same."""

    def __init__(self, *, environment: bool = False, first: int = 0) -> None:
        """If `environment` is true, a target without a proxy uses the proxy that environment variables name.

        If the server's name has several addresses, the address with index `first` is tried first.
        """
        self._environment, self._first = environment, first
        self._idle: list[tuple[Target, _Stream]] = []
        self._busy: set[_Stream] = set()

    @contextlib.asynccontextmanager
    async def get(
        self, target: Target, query: Mapping[str, str], headers: Mapping[str, str], *, head: float, silence: float
    ) -> AsyncIterator[Response]:
        """Sends a GET request, and yields the response. The body may be read as long as the context lasts.

        The response header must arrive within `head` seconds, the connection included. After that, no wait for octets
        may last longer than `silence` seconds. Raises OSError.
        """
        stream: _Stream | None = None
        response: Response | None = None
        try:
            async with asyncio.timeout(head):
                if target.proxy is None and self._environment:
                    target = target._replace(proxy=_proxy_of_environment(urlsplit(target.url)))
                stream = await self._connected(target, silence)
                stream.write(_request(target, query, headers))
                response = await _head(stream, silence)
            yield response
        finally:
            if stream is not None:
                self._busy.discard(stream)
                if response is not None and response.complete and _keeps_alive(response) and stream.reusable:
                    stream.idle_since = asyncio.get_running_loop().time()
                    self._idle.append((target, stream))
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
        oldest = asyncio.get_running_loop().time() - IDLE_TIMEOUT
        while self._idle:
            before, stream = self._idle.pop()
            if before == target and stream.reusable and stream.idle_since >= oldest:
                break
            stream.close()
        else:
            stream = await _connect(target, self._first, silence)
        self._busy.add(stream)
        return stream


def _keeps_alive(response: Response) -> bool:
    options = {word.strip().lower() for word in response.headers.get("connection", "").split(",")}
    ends = "content-length" not in response.headers and "transfer-encoding" not in response.headers
    return "close" not in options and not ends


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


def _request(target: Target, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
    """Returns the octets of a GET request. Raises OSError if a header field cannot be sent."""
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
    return _lines(f"GET {path} HTTP/1.1", {**fields, **headers})


def _lines(first: str, fields: Mapping[str, str]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in fields.items())]
    if any(map(_FORBIDDEN.search, lines)):
        raise ResponseError("a header field of the request has a control character")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def _head(stream: _Stream, silence: float) -> Response:
    """Reads the header of a response; interim responses (1xx) are ignored."""
    while True:
        first, *rest = (await stream.line(b"\r\n\r\n", silence)).split(b"\r\n")
        line = _STATUS.fullmatch(first)
        if line is None:
            raise ResponseError("not a response of HTTP/1")
        headers: dict[str, str] = {}
        for field in rest:
            name, colon, value = field.decode("latin-1").partition(":")
            if not colon or not name or name != name.strip():
                raise ResponseError("the response has a malformed header")
            name, value = name.lower(), value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        status = int(line[2])
        if status >= 200:
            break
    if line[1] == b"0":
        headers["connection"] = "close"
    return Response(stream, status, (line[3] or b"").decode("latin-1"), headers, silence)


def _proxy(url: str) -> SplitResult:
    return urlsplit(url if "://" in url else f"http://{url}")


async def _connect(target: Target, first: int, silence: float) -> _Stream:
    """Connects to the server of `target`, or to the proxy in front of it, with TLS if the URL asks for it."""
    server = urlsplit(target.url)
    entry = server if target.proxy is None else _proxy(target.proxy)
    sock = await _open_socket(entry.hostname or "", _port(entry), first)
    stream = _Stream()
    try:
        await asyncio.get_running_loop().create_connection(lambda: stream, sock=sock)
    except BaseException:
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
    """Has a proxy open a connection to the server (RFC 9110 §9.3.6)."""
    host = server.hostname or ""
    where = f"{f'[{host}]' if ':' in host else host}:{_port(server)}"
    fields = {"Host": where}
    if proxy.username is not None:
        fields["Proxy-Authorization"] = _basic(proxy)
    stream.write(_lines(f"CONNECT {where} HTTP/1.1", fields))
    response = await _head(stream, silence)
    if not 200 <= response.status < 300:
        raise ResponseError(f"the proxy refuses a connection to {where}: {response.status} {response.reason}".rstrip())


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
    """Closes the socket of a connection that was made although it had been cancelled."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _alternating(
    addresses: Sequence[tuple[socket.AddressFamily, tuple[object, ...]]],
) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    """Returns addresses in an order in which the address families alternate, beginning with the first address."""
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
