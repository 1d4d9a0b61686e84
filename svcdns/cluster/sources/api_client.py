"""Requests to the API server: one page of a list, or the byte stream of a watch.

Transport only: it adds credentials, counts requests and turns every way of failing into one of the errors below. It does
not retry, decode objects or keep a place in a list.

Rules: a request has time limits on connecting and on silence, never on its whole length, because a watch is meant to last;
credentials are asked for anew before each request; redirects are not followed, so that no token leaves for elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import msgspec

from svcdns.cluster.sources import decoding
from svcdns.cluster.sources.credentials import Access, Credentials
from svcdns.cluster.sources.options import SourceError
from svcdns.cluster.sources.resources import Resource
from svcdns.errors import SvcdnsError
from svcdns.telemetry.clock import Clock

PAGE_LIMIT = 500
"""Objects a page; only one page of a kind is in memory at a time."""

READ_BUFFER = 1 << 18


class ApiError(SvcdnsError):
    """A request to the API server did not do what it was to do."""


class UnreachableError(ApiError):
    """No answer: refused, timed out, cut, TLS that does not verify, or credentials that cannot be read."""


class ExpiredError(ApiError):
    """410: the resource version or continue token is too old, only a new list helps."""


class RefusedError(ApiError):
    """The API server said no. `retry_after` is the wait that it asked for, in seconds, or None."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {message}".rstrip())
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds: for connecting with the TLS handshake, of silence within a list, of silence in a watch.

    Servers send a bookmark about once a minute, up to 75 s apart, so a watch that missed two is dead; a peer whose machine is gone is found
    sooner, by TCP keep-alive.
    """

    connect: float = 10.0
    list_silence: float = 30.0
    watch_silence: float = 150.0


class RequestObserver(Protocol):
    """Counts requests for the rest_client metrics of spec K20."""

    def request(self, verb: str, host: str, code: str, method: str, seconds: float | None) -> None:
        """A request ended with the HTTP status `code`, or "<error>"; `seconds` is None for a watch, which has no end to wait for."""
        ...


class ApiClient:
    """GETs lists and watches over one session, whose owner closes it."""

    def __init__(
        self, session: aiohttp.ClientSession, credentials: Credentials, *, clock: Clock, observe: RequestObserver, limits: TimeLimits
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._clock = clock
        self._observe = observe
        self._limits = limits

    async def page(self, resource: Resource, token: str) -> bytes:
        """The body of one page, the first one where `token` is empty. Raises ApiError."""
        query = {"limit": str(PAGE_LIMIT)}
        if token:
            query["continue"] = token
        async with self._get(resource, query, self._limits.list_silence, latency=True) as response:
            return await response.read()

    @contextlib.asynccontextmanager
    async def watch(self, resource: Resource, version: str, seconds: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of a watch that starts after `version` and that the server is to end after `seconds`. Raises ApiError, also while
        read."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        async with self._get(resource, query, self._limits.watch_silence, latency=False) as response:
            _keep_alive(response)
            yield response.content.iter_any()

    async def renew(self) -> bool:
        """Read the credentials again; True if they have changed."""
        with contextlib.suppress(SourceError):
            return await self._credentials.renew()
        return False

    @contextlib.asynccontextmanager
    async def _get(
        self, resource: Resource, query: dict[str, str], silence: float, *, latency: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if resource.label_selector:
            query["labelSelector"] = resource.label_selector
        if resource.field_selector:
            query["fieldSelector"] = resource.field_selector
        started = self._clock()
        code, host = "<error>", ""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect, sock_read=silence)
        try:
            access = await self._credentials.access()
            host = access.host
            async with self._session.get(
                access.url + resource.path,
                params=query,
                headers=access.headers,
                timeout=timeout,
                allow_redirects=False,
                ssl=access.ssl if access.ssl is not None else True,
                server_hostname=access.server_hostname,
                proxy=access.proxy,
            ) as response:
                code = str(response.status)
                if response.status != 200:
                    raise await _refusal(response)
                if not latency:
                    self._observe.request("GET", host, code, "GET", None)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            code = "<error>"
            raise UnreachableError(_reason(error)) from error
        except SourceError as error:
            raise UnreachableError(str(error)) from error
        finally:
            if host and (latency or code != "200"):
                self._observe.request("GET", host, code, "GET", self._clock() - started if latency else None)


def connect(access: Access) -> aiohttp.ClientSession:
    """A session for an API server reached by `access`. Proxies of the environment are not for a server on this machine."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        trust_env=not access.local,
        read_bufsize=READ_BUFFER,
    )


def refusal(code: int, status: decoding.Status, retry_after: float | None = None) -> ApiError:
    """The error that a Status object stands for, be it a response's body or the object of an ERROR event."""
    if code == 410:
        return ExpiredError(status.message or status.reason or "expired")
    return RefusedError(code, status.message or status.reason, retry_after)


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    body = await response.content.read(READ_BUFFER)
    try:
        status = decoding.decode_status(body)
    except msgspec.DecodeError:
        status = decoding.Status(message=response.reason or "")
    wanted = response.headers.get("Retry-After", "")
    return refusal(response.status, status, float(wanted) if wanted.isascii() and wanted.isdigit() else None)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or "timed out"
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno and not isinstance(error, aiohttp.ClientSSLError):
        return f"connect {error.host}:{error.port}: {os.strerror(error.errno).lower()}"
    return str(error) or type(error).__name__


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    """Let the kernel probe a silent watch, so that a vanished machine is noticed within half a minute."""
    connection = response.connection
    transport = connection.transport if connection is not None else None
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
