"""The `dnssec` plugin: signs replies when they are made; see docs/plugins/dnssec.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.dnssec.handler import Dnssec
from svcdns.plugins.dnssec.key_files import gather
from svcdns.plugins.dnssec.options import Options, parse

PLUGIN: Final = Dnssec

__all__ = ["PLUGIN", "Dnssec", "Options", "gather", "parse"]
