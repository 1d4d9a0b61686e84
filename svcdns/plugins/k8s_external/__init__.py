"""The `k8s_external` plugin: external addresses of Services; see docs/plugins/k8s_external.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.k8s_external.handler import External
from svcdns.plugins.k8s_external.options import Options, parse

PLUGIN: Final = External

__all__ = ["PLUGIN", "External", "Options", "parse"]
