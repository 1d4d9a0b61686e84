"""DNS over HTTPS (RFC 8484), with HTTP/2 or HTTP/1.1, whichever the client has chosen in the TLS handshake."""

from __future__ import annotations

from typing import Any, Final

from svcdns.plugin_api.query import Client
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.http1 import Http1Connection
from svcdns.serving.transport.http2 import Http2Connection
from svcdns.serving.transport.stream_connection import StreamConnection


class Https:
    """The transport `https`. A listener without a certificate serves HTTP/1.1 in clear text, as CoreDNS does."""

    alpn = ("h2", "http/1.1")
    default_connections = 200

    def connection(self, endpoint: Endpoint, proxied: Client | None, tls: Any) -> StreamConnection:
        """Returns the protocol of a connection. `tls` is its TLS object, or None for clear text."""
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            return Http2Connection(endpoint, proxied)
        return Http1Connection(endpoint, proxied)


TRANSPORT: Final = Https()
