"""The `loadbalance` plugin: varies the order of addresses from answer to answer; see docs/plugins/loadbalance.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.loadbalance.handler import LoadBalance
from svcdns.plugins.loadbalance.options import Options, gather, parse, period, refresh

PLUGIN: Final = LoadBalance

__all__ = ["PLUGIN", "LoadBalance", "Options", "gather", "parse", "period", "refresh"]
