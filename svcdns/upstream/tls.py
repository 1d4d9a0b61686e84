"""Connections to servers over TLS (RFC 7858), never without: what a name is verified against, and sessions that are resumed.

The server's certificate is verified for its name, or for its address where it has none. A session goes on where the connection before
left off, so that nothing is signed or verified anew; with a new context, or after a failure, there is none.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from svcdns.tls.contexts import client_context
from svcdns.tls.material import Material, reason
from svcdns.tls.transport import TlsTransport, Turns
from svcdns.upstream.query import Address

PATIENCE: Final = 10.0
"""Seconds after which a handshake is given up that nobody else has given up before."""


class Trust:
    """Whom to trust and how to show who we are, for all servers of a line; new material is for connections from then on."""

    def __init__(self, material: Material, poll_sockets: Callable[[], object]) -> None:
        """`poll_sockets` is called between two pieces of work. Raises TlsError."""
        self._material, self._poll_sockets = material, poll_sockets
        self.context = client_context(material, poll_sockets)
        self.turns = Turns()

    def take(self, material: Material) -> None:
        """Other material. Raises TlsError, and then all is as before."""
        if material != self._material:
            self.context = client_context(material, self._poll_sockets)
            self._material = material


class SecureConnector:
    """Opens connections to one server."""

    def __init__(self, server: Address, name: str, trust: Trust, source: str = "") -> None:
        """`name` is what its certificate has to be for, its address if empty; `source` the local address."""
        self._server, self._name, self._trust = server, name or server[0], trust
        self._source = (source, 0) if source else None
        self._context = trust.context
        self._last: ssl.SSLObject | None = None

    async def __call__(self, factory: Callable[[], asyncio.Protocol]) -> object:
        """A connection with a protocol from this factory, once the handshake is done. Raises OSError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        session = self._session()

        def side(incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
            return self._context.wrap_bio(incoming, outgoing, server_hostname=self._name, session=session)

        def established() -> asyncio.Protocol:
            if not done.done():
                done.set_result(None)
            self._last = transport.get_extra_info("ssl_object")
            return factory()

        def failed(error: Exception) -> None:
            if not done.done():
                done.set_exception(error)

        transport = TlsTransport(side, established, failed, self._trust.turns, PATIENCE)
        await loop.create_connection(lambda: transport, *self._server, local_addr=self._source)
        try:
            await done
        except ssl.SSLError as error:
            self._last = None
            raise ConnectionError(f"tls: {reason(error)}") from error
        except asyncio.CancelledError:
            transport.abort()
            raise
        return transport

    def _session(self) -> ssl.SSLSession | None:
        """That of the last connection, as far as it is known by now: a server hands it out behind the handshake (RFC 8446 §4.6.1)."""
        if self._context is not self._trust.context:
            self._context, self._last = self._trust.context, None
        session = self._last.session if self._last is not None else None
        return session if session is not None and session.has_ticket else None
