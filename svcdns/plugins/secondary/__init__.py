"""The `secondary` plugin: answers from zones of primary servers; see docs/plugins/secondary.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.secondary.handler import Secondary
from svcdns.plugins.secondary.options import Options, parse

PLUGIN: Final = Secondary

__all__ = ["PLUGIN", "Options", "Secondary", "parse"]
