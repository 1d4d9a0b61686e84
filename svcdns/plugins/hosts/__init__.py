"""The `hosts` plugin: names and addresses from a hosts(5) file; see docs/plugins/hosts.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.hosts.handler import Hosts
from svcdns.plugins.hosts.options import Options, gather, parse, period, refresh

PLUGIN: Final = Hosts

__all__ = ["PLUGIN", "Hosts", "Options", "gather", "parse", "period", "refresh"]
