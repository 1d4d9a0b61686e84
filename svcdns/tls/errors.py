"""The error that functions of `svcdns.tls` raise."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class TlsError(SvcdnsError):
    """Raised for certificates and keys that cannot be used.

    The text of the error has the certificate and the reason.
    """
