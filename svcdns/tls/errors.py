"""Errors of certificates and TLS connections."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class TlsError(SvcdnsError):
    """Certificates that cannot be used; the text says which and why."""
