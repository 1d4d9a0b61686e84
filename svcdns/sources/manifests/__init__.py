"""Reads a cluster from YAML files and folders: for a laptop, for CI, and to see a change before it is applied.

`files` finds the files; `documents` and `kinds` read them. `workloads`, `services` and `endpoint_slices` do the work of
Kubernetes' controllers. `cluster` combines their results, and `source` reports the changes. No request is sent to an
API server.
"""

from svcdns.sources.manifests.errors import ManifestError
from svcdns.sources.manifests.source import ManifestsSource

__all__ = ["ManifestError", "ManifestsSource"]
