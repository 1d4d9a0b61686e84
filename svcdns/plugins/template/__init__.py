"""The `template` plugin: answers with records made from templates in the Corefile; see docs/plugins/template.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.template.handler import Template
from svcdns.plugins.template.options import Options, parse
from svcdns.plugins.template.record_check import gather

PLUGIN: Final = Template

__all__ = ["PLUGIN", "Options", "gather", "parse"]
