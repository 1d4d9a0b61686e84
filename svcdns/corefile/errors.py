"""The errors of a Corefile: one line that says where, what was found and what was expected."""

from __future__ import annotations

from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError


class CorefileError(SvcdnsError):
    """A Corefile that cannot be served; `position` is where its text goes wrong."""

    def __init__(self, position: Position, message: str) -> None:
        """`message` says what was found and what was expected."""
        super().__init__(f"{position.file}:{position.line}:{position.column} - Error during parsing: {message}")
        self.position, self.message = position, message


class ZoneError(SvcdnsError):
    """Text that is neither a domain name nor a CIDR."""
