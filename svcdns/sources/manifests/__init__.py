"""The cluster as YAML files and folders say it, for a laptop, for CI, and for looking at a change before it is applied.

`files` finds, `documents` and `kinds` read, `workloads`, `services` and `slices` do what Kubernetes' controllers would, `cluster` puts
it together, `source` tells the changes. No API server is asked.
"""

from svcdns.sources.manifests.errors import ManifestError
from svcdns.sources.manifests.source import ManifestsSource

__all__ = ["ManifestError", "ManifestsSource"]
