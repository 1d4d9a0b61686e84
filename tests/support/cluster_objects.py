"""Writes objects to an API server as `kubectl` and kubeadm do: creation, server-side apply, strategic merge patch."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tests.support.lab import Api

Object = dict[str, Any]
PLURALS: Final = {
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
}
LISTS: Final = (
    *("/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    *(
        f"/{group}/namespaces/kube-system/{plural}"
        for group, plurals in (
            ("api/v1", ("configmaps", "services", "serviceaccounts")),
            ("apis/apps/v1", ("deployments", "daemonsets")),
            ("apis/autoscaling/v2", ("horizontalpodautoscalers",)),
            ("apis/networking.k8s.io/v1", ("networkpolicies",)),
            ("apis/policy/v1", ("poddisruptionbudgets",)),
            ("apis/rbac.authorization.k8s.io/v1", ("roles", "rolebindings")),
        )
        for plural in plurals
    ),
)
"""The paths of all objects that the files of deploy/ can make."""
CLUSTER_WIDE: Final = {"ClusterRole", "ClusterRoleBinding", "Namespace"}
MERGE: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Conflict(Exception):
    """Raised if another field manager has the fields. `fields` has their paths."""

    fields: tuple[str, ...]


class ObjectWriter:
    """Writes objects, with strict validation of their fields by the API server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def create(self, objects: Iterable[Object], manager: str) -> None:
        """Creates the objects, as a program that calls the API does."""
        for one in objects:
            self._request("POST", _path(one, named=False) + f"?fieldManager={manager}", one)

    def apply(self, one: Object, manager: str = "kubectl", *, force: bool = False) -> Object:
        """Applies an object on the server side. Returns the object in the cluster. Raises Conflict."""
        options = f"?fieldManager={manager}&force={str(force).lower()}"
        return self._request("PATCH", _path(one) + options, one, APPLY)

    def merge(self, one: Object) -> Object:
        """Changes an object by a strategic merge patch, as `kubectl apply` without --server-side does."""
        return self._request("PATCH", _path(one) + "?fieldManager=kubectl", one, MERGE)

    def replace(self, one: Object, manager: str) -> Object:
        """Replaces the whole object, as an update by a program does."""
        return self._request("PUT", _path(one) + f"?fieldManager={manager}", one)

    def read(self, one: Object) -> Object:
        """Returns the object in the cluster, found by its kind and name."""
        return self._request("GET", _path(one))

    def all(self) -> list[Object]:
        """Returns all objects of the kinds that deploy/ has."""
        return [one for path in LISTS for one in self._list(path)]

    def delete_all(self) -> None:
        """Deletes the objects of `all`, and what Helm stores about its releases."""
        for one in [*self.all(), *self._list("/api/v1/namespaces/kube-system/secrets")]:
            self._request("DELETE", _path(one) + "?gracePeriodSeconds=0")

    def _list(self, path: str) -> list[Object]:
        found = self._request("GET", path)
        kind = found["kind"].removesuffix("List")
        return [{"apiVersion": found["apiVersion"], "kind": kind, **one} for one in found["items"]]

    def _request(self, method: str, path: str, content: Object | None = None, kind: str = "application/json") -> Object:
        if method != "GET":
            path += "&fieldValidation=Strict"
        data = None if content is None else json.dumps(content).encode()
        headers = {**self._api.headers, "Content-Type": kind}
        request = urllib.request.Request(self._api.server + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self._api.tls, timeout=10) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            with error:
                status = json.load(error)
            causes = (status.get("details") or {}).get("causes", ())
            if error.code == 409 and causes:
                raise Conflict(tuple(sorted(cause["field"] for cause in causes))) from error
            raise AssertionError(f"{method} {path}: {status['message']}") from error


def _path(one: Object, *, named: bool = True) -> str:
    version, kind, about = one["apiVersion"], one["kind"], one["metadata"]
    plural = PLURALS.get(kind, kind.lower() + "s")
    start = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = "" if kind in CLUSTER_WIDE else f"/namespaces/{about['namespace']}"
    return f"{start}{namespace}/{plural}" + (f"/{about['name']}" if named else "")
