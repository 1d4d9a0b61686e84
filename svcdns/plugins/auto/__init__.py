"""The `auto` plugin: answers from the zone files of a folder; see docs/plugins/auto.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.auto.directory import gather, period, refresh
from svcdns.plugins.auto.handler import Auto
from svcdns.plugins.auto.options import Options, parse

PLUGIN: Final = Auto

__all__ = ["PLUGIN", "Auto", "Options", "gather", "parse", "period", "refresh"]
