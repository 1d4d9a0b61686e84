"""The errors of the plugin contract."""

from __future__ import annotations

from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError


class ContractError(SvcdnsError):
    """Raised if a plugin breaks the plugin contract. The text of the error names the plugin."""


class HookError(SvcdnsError):
    """Raised if a hook of a plugin raised an exception that is not a SvcdnsError."""

    def __init__(self, position: Position, plugin: str, hook: str, error: Exception) -> None:
        """`position` is the position of the plugin's directive in the Corefile."""
        where = f"{position.file}:{position.line}:{position.column}"
        super().__init__(f"{where} - plugin/{plugin}: {hook} failed: {type(error).__name__}: {error}")
