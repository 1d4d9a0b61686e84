"""The error of `nomad`."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class NomadError(SvcdnsError):
    """Raised if Nomad gives no answer that can be used. The text has the address and the reason, and no token."""
