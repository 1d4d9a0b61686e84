"""The `forward` plugin: sends queries for names outside the cluster to other servers; see docs/plugins/forward.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.forward.handler import Forward
from svcdns.plugins.forward.options import ENVIRONMENT, Options, parse
from svcdns.plugins.forward.upstream_files import gather, period, refresh

PLUGIN: Final = Forward

__all__ = ["ENVIRONMENT", "PLUGIN", "Forward", "Options", "gather", "parse", "period", "refresh"]
