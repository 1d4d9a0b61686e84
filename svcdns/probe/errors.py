"""The errors of a probe."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ProbeError(SvcdnsError):
    """Raised if the metrics of a probe cannot be served, or if its objects cannot be created."""
