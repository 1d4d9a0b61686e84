"""The `rewrite` plugin: changes queries, and the replies to them; see docs/plugins/rewrite.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.rewrite.handler import Rewrite
from svcdns.plugins.rewrite.options import Options, parse

PLUGIN: Final = Rewrite

__all__ = ["PLUGIN", "Options", "parse"]
