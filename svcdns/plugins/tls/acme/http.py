"""HTTP requests to an ACME server. Every request has a time limit, and every response a size limit.

Rules:

1. No redirect is followed. A URL that the server sends must have the scheme of the server's directory, or https.
2. The text of an error has neither the body of a request nor that of a response.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from svcdns.plugins.tls.acme.errors import AcmeError, printable
from svcdns.plugins.tls.options import Acme
from svcdns.process.blocking_io import in_thread
from svcdns.sources.api.http_client import ConnectError, Response, Session, Target
from svcdns.tls.errors import TlsError
from svcdns.tls.material import read, reason, split
from svcdns.upstream.blocking_resolver import ResolveError, addresses_of

TIMEOUT: Final = 30.0
"""The most seconds of a request and its response."""
MAX_BODY: Final = 1 << 20
"""The most octets of a response's body."""
MAX_URL: Final = 2048


class HttpReply(NamedTuple):
    """A response with its whole body. Names in `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class AcmeHttp:
    """Sends the requests of one attempt."""

    def __init__(self, acme: Acme, tls: ssl.SSLContext) -> None:
        """`tls` has the trusted authorities."""
        self._acme, self._tls = acme, tls
        self._schemes = ("https", urlsplit(acme.ca).scheme)
        self._session = Session(environment=acme.resolver is None)

    @classmethod
    async def open(cls, acme: Acme) -> AcmeHttp:
        """Reads the trusted authorities in a thread. Raises AcmeError."""
        try:
            return cls(acme, await in_thread(_context, acme.ca_root))
        except (TlsError, ssl.SSLError) as error:
            raise AcmeError(str(error)) from None

    async def request(self, method: str, url: str, body: bytes = b"", accept: str = "application/json") -> HttpReply:
        """Sends a request. A body is a signed JSON object (RFC 8555 §6.2). Raises AcmeError."""
        try:
            parts = urlsplit(url)
            is_usable = (
                parts.scheme in self._schemes and bool(parts.hostname) and parts.port != 0 and not parts.username
            )
        except ValueError:
            is_usable = False
        if not is_usable or len(url) > MAX_URL or not url.isascii() or not url.isprintable():
            raise AcmeError("the server sent a URL that cannot be used")
        headers = {"Accept": accept, **({"Content-Type": "application/jose+json"} if body else {})}
        where = parts.hostname or ""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._send(method, parts, headers, body)
        except TimeoutError:
            raise AcmeError(f"{where}: no response within {TIMEOUT:g} s") from None
        except ssl.SSLError as error:
            raise AcmeError(f"{where}: {reason(error)}") from None
        except (OSError, ResolveError) as error:
            raise AcmeError(f"{where}: {printable(str(error))}") from None

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def _send(self, method: str, parts: SplitResult, headers: Mapping[str, str], body: bytes) -> HttpReply:
        failure: ConnectError | None = None
        for target, host in await self._targets(parts):
            try:
                async with self._session.request(
                    method, target, {}, {**headers, **host}, body, head=TIMEOUT, silence=TIMEOUT
                ) as response:
                    return HttpReply(response.status, response.headers, await _body(response))
            except ConnectError as error:
                failure = error
        raise failure or ConnectError("no address")

    async def _targets(self, parts: SplitResult) -> list[tuple[Target, dict[str, str]]]:
        """Returns the targets to try, each with header fields. With the option `resolver`, looks up the addresses."""
        host, resolver = parts.hostname or "", self._acme.resolver
        if resolver is None or _is_address(host):
            return [(Target(parts.geturl(), self._tls), {})]
        servers = [resolver[0]] if _is_address(resolver[0]) else await in_thread(addresses_of, resolver[0])
        found = await in_thread(addresses_of, host, [(server, resolver[1]) for server in servers])
        port = f":{parts.port}" if parts.port else ""
        out = []
        for address in found:
            netloc = (f"[{address}]" if ":" in address else address) + port
            target = Target(parts._replace(netloc=netloc).geturl(), self._tls, host)
            out.append((target, {"Host": f"{host}{port}"}))
        return out


async def _body(response: Response) -> bytes:
    body = await response.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise ConnectionError(f"the response has more than {MAX_BODY} octets")
    return body


def _context(ca_root: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_root:
        for one in split(read("", "", ca_root).authorities):
            context.load_verify_locations(cadata=one)
    return context


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
