"""The `template` plugin: answers that are written in the Corefile, with parts of the question put in
(docs/behaviour/plugins.md#template)."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.template.handler import Template
from svcdns.plugins.template.options import Options, parse

PLUGIN: Final = Template

__all__ = ["PLUGIN", "Options", "parse"]
