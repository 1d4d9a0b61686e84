"""The requests to Nomad's HTTP API.

A request goes to the address that answered last. If this address fails, the other addresses are tried in turn.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from svcdns.errors import UNDECODABLE
from svcdns.plugins.nomad.errors import NomadError
from svcdns.plugins.nomad.options import Address, Options
from svcdns.sources.api.http_client import ResponseError, Session, Target

TIMEOUT: Final = 5.0
"""The seconds that all addresses together have for a response."""
MAX_BODY: Final = 4 << 20
"""The largest response in octets."""
MAX_REQUESTS: Final = 32
"""The largest number of requests at a time. By default, Nomad accepts 100 connections from one address."""
MAX_WAITING: Final = 1024
"""The largest number of requests that wait until another request ends."""
_SHOWN: Final = 200
"""The largest number of characters of an error response in a log line."""


class _RefusedError(NomadError):
    """Raised for a response that refuses the request. Another server would send the same response."""


class Registration(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """An instance of a service."""

    address: str = ""
    port: int = 0


_decode: Final = msgspec.json.Decoder(list[Registration] | None).decode


class Client:
    """The connections to the addresses of one directive."""

    def __init__(self, options: Options, context: ssl.SSLContext | None) -> None:
        """`context` is for addresses with the scheme https. Connects at the first request."""
        self._options, self._context = options, context
        self._sessions = [Session(environment=True) for _ in options.addresses]
        self._current = 0
        self._places = asyncio.Semaphore(MAX_REQUESTS)
        self._waiting = 0
        self._headers = {"X-Nomad-Token": options.token} if options.token else {}
        if options.basic:
            user, _, password = options.basic.partition(":")
            self._headers["Authorization"] = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    async def registrations(self, service: str, namespace: str) -> Sequence[Registration]:
        """Returns the instances of a service. Raises NomadError."""
        query = {"namespace": namespace, "filter": self._options.filter}
        body = await self._get(f"/v1/service/{quote(service, safe='$&+=:@')}", query)
        try:
            return _decode(body) or ()
        except UNDECODABLE as error:
            raise NomadError(f"the services that Nomad sent cannot be read: {error}") from error

    async def probe(self) -> None:
        """Asks the agents for their own state until one answers. Raises NomadError if none does."""
        await self._get("/v1/agent/self", {})

    async def close(self) -> None:
        """Closes all connections."""
        for session in self._sessions:
            await session.close()

    async def _get(self, path: str, query: dict[str, str]) -> bytes:
        """Returns the body of the first response with status 200."""
        if self._waiting >= MAX_WAITING:
            raise NomadError("too many queries wait for Nomad")
        query = {name: text for name, text in {**query, "region": self._options.region}.items() if text}
        self._waiting += 1
        try:
            async with asyncio.timeout(TIMEOUT), self._places:
                return await self._first(path, query)
        except TimeoutError:
            raise NomadError(f'Get "{path}": no response in {TIMEOUT:g} s') from None
        finally:
            self._waiting -= 1

    async def _first(self, path: str, query: dict[str, str]) -> bytes:
        addresses, first = self._options.addresses, self._current
        problem = ""
        for number in range(len(addresses)):
            index = (first + number) % len(addresses)
            try:
                body = await self._ask(index, path, query, TIMEOUT / len(addresses))
            except _RefusedError:
                self._current = index
                raise
            except TimeoutError:
                problem = f'Get "{_shown(addresses[index])}{path}": no response in time'
            except (OSError, NomadError) as error:
                problem = f'Get "{_shown(addresses[index])}{path}": {error}'
            else:
                self._current = index
                return body
        raise NomadError(problem)

    async def _ask(self, index: int, path: str, query: dict[str, str], seconds: float) -> bytes:
        async with asyncio.timeout(seconds):
            try:
                return await self._read(index, path, query)
            except ResponseError:  # Nomad may have closed a connection that was idle
                return await self._read(index, path, query)

    async def _read(self, index: int, path: str, query: dict[str, str]) -> bytes:
        address, options = self._options.addresses[index], self._options
        target = Target(
            address.url + path,
            self._context,
            options.tls.server_name or None,
            socket=address.socket or None,
        )
        session = self._sessions[index]
        async with session.get(target, query, self._headers, head=TIMEOUT, silence=TIMEOUT) as response:
            body = await response.read(MAX_BODY)
        if response.status != 200:
            shown = body[:_SHOWN].decode(errors="replace").strip()
            text = f"Unexpected response code: {response.status} ({shown})"
            raise _RefusedError(text) if 400 <= response.status < 500 and response.status != 429 else NomadError(text)
        if not response.complete:
            raise NomadError(f"the response has more than {MAX_BODY} octets")
        return body


def _shown(address: Address) -> str:
    """Returns an address without user and password."""
    if address.socket:
        return f"unix://{address.socket}"
    scheme, _, place = address.url.partition("://")
    return f"{scheme}://{place.rpartition('@')[2]}"
