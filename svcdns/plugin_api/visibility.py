"""The part of the cluster that a client may see: plugins that answer cluster names ask a `Visibility` of the query.

The plugin *visibility* puts it into a query (`Query.visibility`). A plugin that answers from the cluster treats an
object that the client may not see as an object that does not exist. All its replies for its zones have the scope
`Query.cluster_scope`, also the replies for names that are hidden from nobody. Otherwise *cache* would give a reply to
clients that may see other objects, and clients could tell a hidden name from a name that does not exist.
"""

from __future__ import annotations

from typing import Protocol

from svcdns.cluster.changes import Dependency


class Visibility(Protocol):
    """The part of the cluster that one client may see. Names of objects are in lower case."""

    def shows(self, namespace: str, service: str, dependencies: list[Dependency]) -> bool:
        """Returns True if the client may see the Service, which must exist.

        With an empty `service`, returns True if the client may see the objects of the namespace that belong to no
        Service, such as Pods. Appends to `dependencies` what the result depends on, apart from the client class.
        """
        ...

    def shows_namespace(self, namespace: str, dependencies: list[Dependency]) -> bool:
        """Returns True if the client may see the namespace, or at least one Service in it. The namespace must exist.

        Appends to `dependencies` as `shows` does.
        """
        ...
