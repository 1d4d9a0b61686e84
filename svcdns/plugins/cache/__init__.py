"""The `cache` plugin: stores replies for as long as their TTLs allow; see docs/plugins/cache.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.cache.handler import Cache
from svcdns.plugins.cache.options import ENVIRONMENT, Options, parse

PLUGIN: Final = Cache

__all__ = ["ENVIRONMENT", "PLUGIN", "Cache", "Options", "parse"]
