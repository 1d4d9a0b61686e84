"""The part of the cluster that a client may see.

The plugin *visibility* puts a `Visibility` into a query (`Query.visibility`). Rules for plugins that answer from the
cluster:

1. Treat an object that the client may not see as nonexistent.
2. All replies have the scope `Query.cluster_scope`, so that *cache* does not give them to other clients.
"""

from __future__ import annotations

from typing import Final, Protocol

from svcdns.cluster.changes import Dependency
from svcdns.corefile.blocks import Directive

POD_LABELS: Final = "pod_labels"
SEE: Final = "see"
"""The words before and after the label selector for Pods in a line `allow` of the directive *visibility*."""


def pod_selectors(directive: Directive) -> list[str]:
    """Returns the label selectors for Pods in the directive *visibility*. The watch must keep these labels."""
    found = []
    for line in directive.body or ():
        words = [word.text for word in line.arguments]
        if line.name.text == "allow" and POD_LABELS in words:
            rest = words[words.index(POD_LABELS) + 1 :]
            found.append(" ".join(rest[: rest.index(SEE)] if SEE in rest else rest))
    return found


class Visibility(Protocol):
    """The part of the cluster that one client may see. Names of objects are in lower case."""

    def shows(self, namespace: str, service: str, dependencies: list[Dependency]) -> bool:
        """Returns True if the client may see the Service, which must exist.

        If `service` is empty, returns True if the client may see objects of the namespace that belong to no Service,
        such as Pods. Appends the dependencies of the result to `dependencies`.
        """
        ...

    def shows_namespace(self, namespace: str, dependencies: list[Dependency]) -> bool:
        """Returns True if the client may see the namespace, or at least one Service in it. The namespace must exist.

        Appends the dependencies of the result to `dependencies`.
        """
        ...
