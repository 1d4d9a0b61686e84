"""The `rrl` plugin: response rate limiting; see docs/plugins/rrl.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.rrl.handler import Rrl
from svcdns.plugins.rrl.options import Options, parse

PLUGIN: Final = Rrl

__all__ = ["PLUGIN", "Options", "Rrl", "parse"]
