"""The error of an attempt to obtain a certificate, and the texts of ACME servers in it."""

from __future__ import annotations

from svcdns.errors import SvcdnsError

MAX_TEXT = 300
"""The most characters of a server's text in a log line."""


class AcmeError(SvcdnsError):
    """Raised if a certificate cannot be obtained.

    `retry_after` is the least number of seconds before the next attempt.
    """

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        """`text` is the reason, for a log line."""
        super().__init__(text)
        self.retry_after = retry_after


def printable(text: str) -> str:
    """Returns a server's text for a log line: shortened, and without control characters."""
    clean = "".join(one if one.isprintable() else " " for one in text[:MAX_TEXT])
    return clean + ("..." if len(text) > MAX_TEXT else "")
