"""The `tls` plugin: certificates for listeners with TLS, from files or from an ACME server; see docs/plugins/tls.md.

The control process reads the files at start and again every PERIOD seconds, or obtains a certificate from an ACME
server, and sends the certificates to the workers. A new certificate is used for new connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from svcdns.plugins.tls.files import gather, period, refresh
from svcdns.plugins.tls.handler import Tls
from svcdns.plugins.tls.options import ENVIRONMENT, UNCHECKED, Acme, Options, parse, share
from svcdns.plugins.tls.served import ACME_FAILURES, ACME_NEXT, EXPIRY, REFUSED, ServerTls, decode

PLUGIN: Final = Tls


def sources(options: Options) -> tuple[Acme, ...]:
    """Returns the ACME server and the domains of the block's certificate; nothing for certificates from files."""
    return () if options.acme is None else (options.acme,)


async def watch(source: Acme, publish: Callable[[Mapping[str, bytes]], Awaitable[None]]) -> None:
    """Obtains and renews a certificate until the task is cancelled. Runs in the control process only."""
    from svcdns.plugins.tls.acme.manager import Manager

    await Manager(source, publish).run()


__all__ = [
    "ACME_FAILURES", "ACME_NEXT", "ENVIRONMENT", "EXPIRY", "PLUGIN", "REFUSED", "UNCHECKED", "Acme", "Options",
    "ServerTls", "Tls", "decode", "gather", "parse", "period", "refresh", "share", "sources", "watch",
]  # fmt: skip
