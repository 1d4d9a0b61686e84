"""Errors that keep the suite from a verdict; each is one line for the user."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ConformanceError(SvcdnsError):
    """The run cannot begin or go on: no such server, no cluster, no right to write."""
