"""The `log` plugin: writes a log line for every query; see docs/plugins/log.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.log.handler import Log
from svcdns.plugins.log.options import Options, parse

PLUGIN: Final = Log

__all__ = ["PLUGIN", "Log", "Options", "parse"]
