"""The errors that stop a run before its result is known."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ConformanceError(SvcdnsError):
    """Raised if the run cannot begin or continue: no DNS server, no API server, or no permission to write.

    The text of the error is one line for the user.
    """
