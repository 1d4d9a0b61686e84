"""The errors that stop a run before its result is known. `str(error)` is one line for the user."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ConformanceError(SvcdnsError):
    """The run cannot begin or continue: no DNS server, no API server, or no permission to write."""
