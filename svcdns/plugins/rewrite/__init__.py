"""The `rewrite` plugin: changes questions on their way in, and replies on their way out
(docs/behaviour/plugins.md#rewrite)."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.rewrite.handler import Rewrite
from svcdns.plugins.rewrite.options import Options, parse

PLUGIN: Final = Rewrite

__all__ = ["PLUGIN", "Options", "parse"]
