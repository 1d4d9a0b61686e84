"""The `dnstap` plugin: reports queries and replies to dnstap readers; see docs/plugins/dnstap.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.dnstap.data import gather, period, refresh
from svcdns.plugins.dnstap.handler import Dnstap
from svcdns.plugins.dnstap.options import Options, parse

PLUGIN: Final = Dnstap

__all__ = ["PLUGIN", "Dnstap", "Options", "gather", "parse", "period", "refresh"]
