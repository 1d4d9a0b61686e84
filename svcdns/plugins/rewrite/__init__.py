"""The `rewrite` plugin: changes queries before the rest of the chain answers them, and their replies; see docs/plugins/rewrite.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.rewrite.handler import Rewrite
from svcdns.plugins.rewrite.options import Options, parse

PLUGIN: Final = Rewrite

__all__ = ["PLUGIN", "Options", "parse"]
