"""Reads a cluster from YAML files and folders, in place of an API server.

The module `files` finds the files; `documents` and `kinds` read them. `workloads`, `services` and `endpoint_slices` do
the work of Kubernetes' controllers. `cluster` combines their results, and `source` reports the changes.
"""

from svcdns.sources.manifests.errors import ManifestError
from svcdns.sources.manifests.source import ManifestsSource

__all__ = ["ManifestError", "ManifestsSource"]
