"""Errors of the plugin contract."""

from __future__ import annotations

from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError


class ContractError(SvcdnsError):
    """A plugin does not keep to the plugin contract. The text names the plugin."""


class HookError(SvcdnsError):
    """A hook of a plugin raised an exception that no hook should raise; a SvcdnsError is one that it may raise."""

    def __init__(self, position: Position, plugin: str, hook: str, error: Exception) -> None:
        """`position` is that of the plugin's directive."""
        where = f"{position.file}:{position.line}:{position.column}"
        super().__init__(f"{where} - plugin/{plugin}: {hook} failed: {type(error).__name__}: {error}")
