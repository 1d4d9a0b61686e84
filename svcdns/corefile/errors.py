"""Errors of a Corefile: one line with the position, the text found and the text expected."""

from __future__ import annotations

from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError


class CorefileError(SvcdnsError):
    """A Corefile that cannot be served; `position` is that of the error."""

    def __init__(self, position: Position, message: str) -> None:
        """`message` says what was found and what was expected."""
        super().__init__(f"{position.file}:{position.line}:{position.column} - Error during parsing: {message}")
        self.position, self.message = position, message


class ZoneError(SvcdnsError):
    """Text that is neither a domain name nor a CIDR."""
