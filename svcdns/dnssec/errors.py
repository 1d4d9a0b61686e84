"""The error of the package `dnssec`."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class KeyFileError(SvcdnsError):
    """Raised if the files of a key cannot be used. The text has the file, and the line where there is one."""
