"""The `grpc` plugin: queries to other servers over gRPC; see docs/plugins/grpc.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.grpc.files import gather, period, refresh
from svcdns.plugins.grpc.handler import Grpc
from svcdns.plugins.grpc.options import Options, parse

PLUGIN: Final = Grpc

__all__ = ["PLUGIN", "Grpc", "Options", "gather", "parse", "period", "refresh"]
