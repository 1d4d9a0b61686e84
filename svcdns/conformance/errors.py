"""Errors that prevent a verdict. Each is one line for the user."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ConformanceError(SvcdnsError):
    """The run cannot begin or continue: no server, no cluster, or no permission to write."""
