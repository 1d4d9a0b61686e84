"""Makes TLS contexts, with TLS 1.2 and later, Python's default cipher suites, and no renegotiation.

A context serves many connections. For new certificates, a new context is made. Open connections keep the old one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, load_pair, reason, split


def _nothing() -> object:
    return None


def server_context(
    material: Material,
    verify: ssl.VerifyMode = ssl.CERT_NONE,
    keylog: str = "",
    poll_sockets: Callable[[], object] = _nothing,
) -> ssl.SSLContext:
    """Returns the TLS context of a listener. Raises TlsError.

    If `material` has no certificate, each handshake fails with an alert.

    `verify` states whether clients may or must present a certificate. A client's certificate is verified with the
    authorities in `material`, or with those of the system if there are none. `poll_sockets` is called between two steps
    of the work.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    if material.certificates:
        load_pair(context, material)
    context.verify_mode = verify
    if verify != ssl.CERT_NONE:
        _trust(context, material, poll_sockets)
    if keylog:
        context.keylog_filename = keylog
    return context


def client_context(material: Material, poll_sockets: Callable[[], object] = _nothing) -> ssl.SSLContext:
    """Returns the TLS context of connections to servers. Raises TlsError.

    The name in a server's certificate is always verified. The context trusts the authorities in `material`, or those of
    the system if there are none. `poll_sockets` is called between two steps of the work.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if material.certificates:
        load_pair(context, material)
    _trust(context, material, poll_sockets)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION


def _trust(context: ssl.SSLContext, material: Material, poll_sockets: Callable[[], object]) -> None:
    try:
        for one in split(material.authorities):
            context.load_verify_locations(cadata=one)
            poll_sockets()
        if not material.authorities:
            context.set_default_verify_paths()
    except ssl.SSLError as error:
        raise TlsError(reason(error)) from error
