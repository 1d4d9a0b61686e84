"""The `kubernetes` plugin: names and addresses of Services, endpoints and Pods; see docs/plugins/kubernetes.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.kubernetes.handler import Kubernetes
from svcdns.plugins.kubernetes.options import ENVIRONMENT, Options, parse

PLUGIN: Final = Kubernetes

__all__ = ["ENVIRONMENT", "PLUGIN", "Kubernetes", "Options", "parse"]
