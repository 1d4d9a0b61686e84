"""The `tsig` plugin: verifies signed queries, and has their replies signed; see docs/plugins/tsig.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.tsig.handler import Tsig
from svcdns.plugins.tsig.key_file import gather, period, refresh
from svcdns.plugins.tsig.options import Options, parse

PLUGIN: Final = Tsig

__all__ = ["PLUGIN", "Options", "Tsig", "gather", "parse", "period", "refresh"]
