"""The errors of the package `wire`, which encodes and parses DNS messages."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class FormError(SvcdnsError):
    """Raised if octets are not a valid DNS message, name or record (RFC 1035 §4)."""


class NameTextError(SvcdnsError):
    """Raised if a text is not a domain name in the presentation format of RFC 1035 §5.1."""
