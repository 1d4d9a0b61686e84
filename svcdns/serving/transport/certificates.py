"""The certificates of a worker's listeners with TLS. A new certificate is used for new connections only.

The module of the plugin *tls* is imported when the first certificate arrives: a server without TLS does not need it.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, cast

from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine
from svcdns.telemetry.counters import Counters
from svcdns.tls.contexts import server_context
from svcdns.tls.errors import TlsError

if TYPE_CHECKING:
    from svcdns.plugins import tls

log = logging.getLogger("svcdns")


class NoCertificateError(SvcdnsError):
    """Raised if a listener has no usable certificate."""


class Certificates:
    """The certificates of a worker's TLS listeners, by their keys in the plugins' data."""

    def __init__(self, counters: Counters, poll_sockets: Callable[[], object]) -> None:
        """`poll_sockets` reads the UDP sockets. The function is called between two pieces of long work."""
        self._counters, self._poll_sockets = counters, poll_sockets
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._served: dict[str, tls.ServerTls] = {}
        self._with_alpn: dict[tuple[str, tuple[str, ...]], ssl.SSLContext] = {}
        self._shown = False
        """True if there are metrics of certificates."""
        self.on_change: Callable[[], object] = lambda: None
        """Called when a certificate has changed."""

    def take(self, key: str, payload: bytes) -> None:
        """Uses a certificate from the control process for new connections.

        If it cannot be used, the previous certificate stays in use.
        """
        from svcdns.plugins import tls

        served, before = tls.decode(payload), self._served.get(key)
        if before is not None and before.material == served.material:
            self._served[key] = served
            self._show()
            return
        try:
            self._contexts[key] = self._context(served)
        except (TlsError, OSError) as error:
            log.error(LogLine("the certificate cannot be served", path=served.certificate, error=error))
            return
        self._served[key] = served
        self._with_alpn.clear()
        self._show()
        self.on_change()

    def _context(self, served: tls.ServerTls) -> ssl.SSLContext:
        from svcdns.plugins import tls

        if served.client_auth in tls.UNCHECKED:
            from svcdns.tls.unchecked_clients import UncheckedContext  # only such listeners pay for pyOpenSSL

            made: Any = UncheckedContext(served.material, served.keylog, required=served.client_auth == "require")
            return cast("ssl.SSLContext", made)
        return server_context(served.material, served.verify, served.keylog, self._poll_sockets)

    def check(self, key: str) -> None:
        """Raises NoCertificateError if there is no certificate with this key."""
        if key not in self._contexts:
            raise NoCertificateError("the certificate of a listener was not received, or cannot be served")

    def context(self, key: str, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """Returns the TLS context for new connections, with the certificate under `key`.

        The context offers the protocols `alpn` (RFC 7301). Call it only if `check(key)` raises no error.
        """
        if not alpn:
            return self._contexts[key]
        context = self._with_alpn.get((key, alpn))
        if context is None:
            context = self._with_alpn[key, alpn] = self._context(self._served[key])
            context.set_alpn_protocols(list(alpn))
        return context

    def served(self, key: str) -> tls.ServerTls:
        """Returns the certificate under `key`. Call it only if `check(key)` raises no error."""
        return self._served[key]

    def keep(self, keys: Collection[str]) -> None:
        """Removes all certificates whose key is not in `keys`."""
        for key in [key for key in self._served if key not in keys]:
            del self._served[key], self._contexts[key]
        self._with_alpn.clear()
        self._show()

    def _show(self) -> None:
        """Sets the metrics of the certificates."""
        if not self._served and not self._shown:
            return
        from svcdns.plugins import tls

        self._shown = bool(self._served)
        counters = self._counters
        counters.clear(tls.EXPIRY)
        counters.clear(tls.REFUSED)
        counters.clear(tls.ACME_FAILURES)
        counters.clear(tls.ACME_NEXT)
        for served in self._served.values():
            if not served.is_pending:
                counters.set(counters.cell(tls.EXPIRY, served.certificate), served.expires)
            if served.failures < 0:
                counters.set(counters.cell(tls.REFUSED, served.certificate), float(bool(served.refused)))
            else:
                counters.set(counters.cell(tls.ACME_FAILURES, served.certificate), served.failures)
                counters.set(counters.cell(tls.ACME_NEXT, served.certificate), served.next_attempt)
