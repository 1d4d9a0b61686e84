"""The `transfer` plugin: transfers zones to secondary servers; see docs/plugins/transfer.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.transfer.handler import Transfer
from svcdns.plugins.transfer.options import Options, parse

PLUGIN: Final = Transfer

__all__ = ["PLUGIN", "Options", "Transfer", "parse"]
