"""The errors of a Corefile.

The text of a CorefileError is one line with the position, the text found and the text expected.
"""

from __future__ import annotations

from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError


class CorefileError(SvcdnsError):
    """Raised if the Corefile has an error. `position` is the position of the error."""

    def __init__(self, position: Position, message: str) -> None:
        """`message` has the text that was found and the text that was expected."""
        super().__init__(f"{position.file}:{position.line}:{position.column} - Error during parsing: {message}")
        self.position, self.message = position, message
        self.content = ""
        """The SHA-512 of the text that cannot be parsed, set by `load`. It shows whether the text has changed."""


class RepeatedError(CorefileError):
    """Raised if a plugin is used twice in a block that may use it once."""


class UnclosedError(CorefileError):
    """Raised if a `{` has no `}`. The rest of the file cannot be read."""


class ZoneError(SvcdnsError):
    """Raised if a text is neither a domain name nor a CIDR."""
