"""Sends requests to the API server: for one page of a list, or for a watch.

The module does not retry, and does not decode objects. Every failure is raised as one of this module's errors. Rules:

1. Each request has a time limit for the response header, and one for the time without new octets.
2. Credentials are read before each request. Redirects are not followed, so no token goes to another server.
3. After a request without a response, all connections are closed. The next request uses another address of the server.
"""

from __future__ import annotations

import contextlib
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from svcdns.cluster.watch_options import SourceError
from svcdns.errors import UNDECODABLE, SvcdnsError
from svcdns.eventloop.clock import Clock
from svcdns.sources.api import decoding
from svcdns.sources.api.credentials import Credentials
from svcdns.sources.api.http_client import Response, Session, Take, Target
from svcdns.sources.api.resources import Resource

READ_BUFFER = 1 << 18
_GZIP = 31


Follow = Callable[[Take], Awaitable[None]]
"""Passes the octets of a watch to a function as they arrive, until the watch ends."""


class ApiError(SvcdnsError):
    """Raised if a request to the API server failed."""


class UnreachableError(ApiError):
    """Raised if the request got no response.

    The connection was refused, cut or timed out, its TLS certificate is not trusted, or the credentials cannot be read.
    """


class ExpiredError(ApiError):
    """Raised for status 410: the resource version or the continue token is too old. A new list is needed."""


class RefusedError(ApiError):
    """Raised if the API server refused the request. `retry_after` is the header Retry-After in seconds, or None."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {message}".rstrip())
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Time limits of requests, in seconds.

    - `head` limits the time until the response header of a cheap request, including the connection. If the server is
      slow, `long` is used instead.
    - `list_silence` and `watch_silence` limit the time without new octets, for a list and for a watch. A server with
      changes sends a bookmark about once a minute.
    """

    head: float = 3.0
    long: float = 20.0
    list_silence: float = 30.0
    watch_silence: float = 90.0


class RequestObserver(Protocol):
    """Counts requests and octets, for the rest_client metrics."""

    def request(self, verb: str, host: str, code: str, method: str, seconds: float | None) -> None:
        """Counts a request that ended with the HTTP status `code`, or with "<error>".

        `seconds` is the time until the response, or None for a watch.
        """
        ...

    def received(self, resource: str, octets: int) -> None:
        """Counts the octets of a response body, or of a part of it, before decompression."""
        ...


class ApiClient:
    """Sends list and watch requests for one resource, over connections that no other client uses."""

    def __init__(
        self,
        resource: Resource,
        credentials: Credentials,
        *,
        clock: Clock,
        observe: RequestObserver,
        limits: TimeLimits,
    ) -> None:
        self._resource, self._credentials, self._clock, self._observe, self._limits = (
            resource,
            credentials,
            clock,
            observe,
            limits,
        )
        self._session: Session | None = None
        self._given_up = 0

    async def page(self, token: str, limit: int, *, long: bool) -> bytes:
        """Returns the body of a page of a list, with at most `limit` objects. Raises ApiError.

        `token` is the continue token of the previous page. If it is empty, the first page is requested. `long` permits
        a long time limit for the response header.
        """
        query = {"limit": str(limit)}
        if token:
            query["continue"] = token
        head = self._limits.list_silence if limit > 1 else self._head(long=long)
        async with self._get(query, head, self._limits.list_silence, encoding="gzip", latency=True) as response:
            body = await response.read()
            self._observe.received(self._resource.qualified, len(body))
            if response.headers.get("content-encoding", "") != "gzip":
                return body
            try:
                return zlib.decompress(body, _GZIP)
            except zlib.error as error:
                raise UnreachableError(f"a page cannot be unpacked: {error}") from error

    @contextlib.asynccontextmanager
    async def watch(self, version: str, seconds: int, *, long: bool) -> AsyncIterator[Follow]:
        """Opens a watch from the resource version `version`. Yields a function that follows the watch.

        The function passes the octets of the watch to its argument when they arrive, and returns when the watch ends.
        The server ends the watch after `seconds`. Raises ApiError, also while the watch is followed.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        head, silence = self._head(long=long), self._limits.watch_silence
        async with self._get(query, head, silence, encoding="identity", latency=False) as response:
            _keep_alive(response)
            resource, received = self._resource.qualified, self._observe.received

            async def follow(take: Take) -> None:
                def count(octets: bytes) -> Awaitable[None] | None:
                    received(resource, len(octets))
                    return take(octets)

                await response.follow(count)

            yield follow

    async def renew(self, *, refused: bool) -> bool:
        """Reads the credentials again. Returns True if they have changed.

        `refused` states whether the API server has refused the credentials.
        """
        with contextlib.suppress(SourceError):
            return await self._credentials.renew(refused=refused)
        return False

    async def close(self) -> None:
        """Closes the connections. The next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _head(self, *, long: bool) -> float:
        return self._limits.long if long else self._limits.head

    @contextlib.asynccontextmanager
    async def _get(
        self, query: dict[str, str], head: float, silence: float, *, encoding: str, latency: bool
    ) -> AsyncIterator[Response]:
        if self._resource.label_selector:
            query["labelSelector"] = self._resource.label_selector
        if self._resource.field_selector:
            query["fieldSelector"] = self._resource.field_selector
        started = self._clock()
        code, host = "<error>", ""
        try:
            access = await self._credentials.access()
            host = access.host
            if self._session is None:
                self._session = Session(environment=not access.local, first=self._given_up)
            target = Target(access.url + self._resource.path, access.ssl, access.server_hostname, access.proxy)
            fields = {**access.headers, "Accept-Encoding": encoding}
            async with self._session.get(target, query, fields, head=head, silence=silence) as response:
                code = str(response.status)
                if response.status != 200:
                    raise await _refusal(response)
                if not latency:
                    self._observe.request("GET", host, code, "GET", None)
                yield response
        except OSError as error:
            if latency:
                code = "<error>"
            self._given_up += 1
            await self.close()
            raise UnreachableError(_reason(error)) from error
        except SourceError as error:
            raise UnreachableError(str(error)) from error
        finally:
            if host and (latency or code != "200"):
                self._observe.request("GET", host, code, "GET", self._clock() - started if latency else None)


def refusal(code: int, status: decoding.Status, retry_after: float | None = None) -> ApiError:
    """Returns the error for a Status object from a response body or an ERROR event."""
    if code == 410:
        return ExpiredError(status.message or status.reason or "expired")
    return RefusedError(code, status.message or status.reason, retry_after)


async def _refusal(response: Response) -> ApiError:
    body = await response.read(READ_BUFFER)
    try:
        status = decoding.decode_status(body)
    except UNDECODABLE:
        status = decoding.Status(message=response.reason)
    return refusal(response.status, status, _retry_after(response))


def _retry_after(response: Response) -> float | None:
    """Returns the header Retry-After in seconds, or None if it is missing or invalid.

    The header may be a date (RFC 9110 §10.2.3). The date is compared with the Date of the response.
    """
    wanted = response.headers.get("retry-after", "")
    if wanted.isascii() and wanted.isdigit():
        return float(wanted)
    import email.utils  # here, because it imports much, and few responses need it

    try:
        moments = [email.utils.parsedate_to_datetime(text) for text in (wanted, response.headers.get("date", ""))]
        return max(0.0, (moments[0] - moments[1]).total_seconds())
    except (ValueError, TypeError):
        return None


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or "timed out"
    return str(error) or type(error).__name__


def _keep_alive(response: Response) -> None:
    """Turns on TCP keep-alive for a watch, so that a failed machine is noticed within half a minute."""
    sock = response.socket
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
