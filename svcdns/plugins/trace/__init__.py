"""The `trace` plugin: sends traces of queries to Zipkin, Datadog or an OTLP receiver (docs/plugins/trace.md).

Modules that import OpenTelemetry are imported only when the first spans are exported.
"""

from __future__ import annotations

from typing import Final

from svcdns.plugins.trace.handler import Trace
from svcdns.plugins.trace.options import Options, parse

PLUGIN: Final = Trace

__all__ = ["PLUGIN", "Options", "Trace", "parse"]
