"""The errors of a comparison of two servers."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ShadowError(SvcdnsError):
    """Raised if the queries cannot be read, or if a server cannot be reached."""
