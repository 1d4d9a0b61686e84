"""The `geoip` plugin: metadata about the place of a client's address; see docs/plugins/geoip.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.geoip.database_file import gather, period, refresh
from svcdns.plugins.geoip.handler import GeoIP
from svcdns.plugins.geoip.options import Options, parse

PLUGIN: Final = GeoIP

__all__ = ["PLUGIN", "GeoIP", "Options", "gather", "parse", "period", "refresh"]
