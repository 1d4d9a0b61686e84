"""Errors of the plugin contract."""

from __future__ import annotations

from svcdns.errors import SvcdnsError


class ContractError(SvcdnsError):
    """A plugin does not keep to the plugin contract. The text names the plugin."""
