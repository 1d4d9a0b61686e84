"""The `file` plugin: answers from zone files; see docs/plugins/file.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.file.handler import File
from svcdns.plugins.file.options import Options, parse
from svcdns.plugins.file.zone_files import gather, period, refresh

PLUGIN: Final = File

__all__ = ["PLUGIN", "File", "Options", "gather", "parse", "period", "refresh"]
