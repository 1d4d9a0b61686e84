"""The errors of the wire format."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class FormError(SvcdnsError):
    """Octets that are no DNS message, name or record as RFC 1035 §4 defines them."""


class NameTextError(SvcdnsError):
    """Text that is no domain name in the presentation format of RFC 1035 §5.1."""
