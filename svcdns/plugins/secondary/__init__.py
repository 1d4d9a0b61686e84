"""The `secondary` plugin: answers from zones of primary servers; see docs/plugins/secondary.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.secondary.handler import Secondary
from svcdns.plugins.secondary.kept_zones import gather
from svcdns.plugins.secondary.options import ENVIRONMENT, Options, parse

PLUGIN: Final = Secondary

__all__ = ["ENVIRONMENT", "PLUGIN", "Options", "Secondary", "gather", "parse"]
