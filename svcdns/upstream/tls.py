"""Connections to upstream servers over TLS (RFC 7858). The server's certificate is always verified.

The certificate must be valid for the server's configured name, or for its address if no name is configured. A
connection resumes the TLS session of the previous connection. After a failed connection, a full handshake is made.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from svcdns.tls.contexts import client_context
from svcdns.tls.material import Material, reason
from svcdns.tls.transport import HandshakeQueue, TlsTransport
from svcdns.upstream.query import Address

HANDSHAKE_TIMEOUT: Final = 10.0
"""The longest time for a handshake, in seconds. Callers usually cancel the handshake earlier."""


class ClientTls:
    """The certificate authorities to trust and the client's own certificate, for all servers of a forward rule."""

    def __init__(self, material: Material, poll_sockets: Callable[[], object]) -> None:
        """`poll_sockets` reads the worker's UDP sockets.

        The function is called between two steps of the set-up. Raises TlsError.
        """
        self._material, self._poll_sockets = material, poll_sockets
        self.context = client_context(material, poll_sockets)
        self._with_alpn: dict[tuple[str, ...], ssl.SSLContext] = {}
        self.handshakes = HandshakeQueue()

    @property
    def material(self) -> Material:
        """Returns the certificates that new connections use."""
        return self._material

    def replace(self, material: Material) -> None:
        """Uses `material` for new connections. If it cannot be used, raises TlsError and keeps the old material."""
        if material != self._material:
            self.context = client_context(material, self._poll_sockets)
            self._material = material
            self._with_alpn.clear()

    def offering(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """Returns the present TLS context that offers the protocols `alpn` (RFC 7301)."""
        if not alpn:
            return self.context
        if alpn not in self._with_alpn:
            made = self._with_alpn[alpn] = client_context(self._material, self._poll_sockets)
            made.set_alpn_protocols(list(alpn))
        return self._with_alpn[alpn]


class TlsConnector:
    """Opens TLS connections to one server."""

    def __init__(
        self, server: Address, name: str, client: ClientTls, source: str = "", alpn: tuple[str, ...] = ()
    ) -> None:
        """The server's certificate must be valid for `name`, or for the server's address if `name` is empty.

        `source` is the local address. `alpn` are the protocols that the client offers (RFC 7301).
        """
        self._server, self._name, self._client = server, name or server[0], client
        self._source = (source, 0) if source else None
        self._alpn, self._context = alpn, client.offering(alpn)
        self._last: ssl.SSLObject | None = None

    async def __call__(self, factory: Callable[[], asyncio.Protocol]) -> object:
        """Opens a connection, and makes the TLS handshake.

        `factory` makes the connection's protocol. Raises OSError.
        """
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

        transport = TlsTransport(side, established, failed, self._client.handshakes, HANDSHAKE_TIMEOUT)
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
        """Returns the last connection's TLS session, or None if the server sent no session ticket (RFC 8446 §4.6.1)."""
        present = self._client.offering(self._alpn)
        if self._context is not present:
            self._context, self._last = present, None
        session = self._last.session if self._last is not None else None
        return session if session is not None and session.has_ticket else None
