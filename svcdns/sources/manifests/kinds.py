"""Reads the objects of manifest files, and checks their fields as an API server does.

A document becomes a `ManifestObject`. An object of a kind that is not used, such as a ConfigMap, has no `body`: only
its namespace matters for DNS names. Kinds are told apart by their apiVersion, too. A Service of serving.knative.dev is
not used, nor is a Deployment of extensions/v1beta1, which no cluster accepts any more. Files of other tools in the same
folders are skipped.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from svcdns.cluster.objects import HEADLESS
from svcdns.sources.api.decoding import ApiServiceImport, ApiSlice
from svcdns.sources.manifests.address_pool import MAX_PODS
from svcdns.sources.manifests.documents import Document, Field, documents
from svcdns.sources.manifests.errors import FilePosition, ManifestError, NotKubernetesError, NotYamlError
from svcdns.sources.manifests.portions import UnusedObject
from svcdns.sources.manifests.schemas import (
    AnyObject,
    EndpointsObject,
    ObjectMeta,
    PodObject,
    ServiceObject,
    WorkloadObject,
)

DEFAULT_NAMESPACE: Final = "default"
SERVICE_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
FAMILIES: Final = ("IPv4", "IPv6")
COMPLETION_MODES: Final = ("NonIndexed", "Indexed")
FAMILY_POLICIES: Final = ("SingleStack", "PreferDualStack", "RequireDualStack")

_KUSTOMIZATION_FILES: Final = frozenset({"kustomization.yaml", "kustomization.yml", "kustomization"})
_KUSTOMIZE: Final = "kustomize.config.k8s.io/"
_CHANGE_NAMES: Final = frozenset({
    "namespace", "namePrefix", "nameSuffix", "configMapGenerator", "secretGenerator", "generators", "helmCharts",
    "patches", "patchesStrategicMerge", "patchesJson6902", "replicas", "replacements", "transformers", "labels",
    "commonLabels", "components", "vars",
})  # fmt: skip
"""Fields of a kustomization that may change DNS names, or the answers for a name."""
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

Body = ServiceObject | ApiSlice | EndpointsObject | PodObject | WorkloadObject | AnyObject | ApiServiceImport


@dataclass(frozen=True, slots=True)
class ManifestObject:
    """An object of a manifest. `namespace` is empty for a Namespace; `body` is None for a kind that is not used."""

    position: FilePosition
    kind: str
    namespace: str
    name: str
    metadata: ObjectMeta
    body: Body | None = None


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of a file: objects, the reason why the file or a part is skipped, ignored objects, and errors."""

    objects: tuple[ManifestObject, ...] = ()
    skipped: ManifestError | None = None
    ignored: tuple[ManifestError, ...] = ()
    errors: tuple[ManifestError, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Log lines: at most one about what is skipped, and one for each ignored object."""
        skipped = [] if self.skipped is None else [f"{self.skipped}; skipped"]
        return [*skipped, *map(str, self.ignored)]


def read(path: str, namespace: str = DEFAULT_NAMESPACE) -> FileContent:
    """Reads a file. Objects without a namespace get `namespace`. Errors are in the result; nothing is raised."""
    if Path(path).name.lower() in _KUSTOMIZATION_FILES:
        return _kustomization(path)
    objects: list[ManifestObject] = []
    skipped: list[ManifestError] = []
    ignored: list[ManifestError] = []
    errors: list[ManifestError] = []
    for found in documents(path, is_unused=_is_unused):
        try:
            if isinstance(found, ManifestError):
                raise found
            if isinstance(found, UnusedObject):
                objects.append(ManifestObject(found.position, found.kind, found.namespace, "", _NO_METADATA))
                continue
            if found.api_version.startswith(_KUSTOMIZE):
                skipped.append(_not_applied(found, path))
                continue
            objects.append(_read(found, namespace))
            version = _VERSIONS.get(found.kind)
            if version is not None and objects[-1].body is None:
                of_version = f" of {found.api_version}" if version != found.api_version else ""
                expected = f"{version} was expected" if of_version else "since its name is not known before it is made"
                ignored.append(ManifestError(found.position(), f"{found.kind}{of_version} is ignored, {expected}"))
        except NotYamlError as error:
            return FileContent(skipped=error)
        except NotKubernetesError as error:
            skipped.append(error)
        except ManifestError as error:
            errors.append(error)
    template = next((error for error in errors if _is_template_line(error.position)), None)
    if template is not None:
        return FileContent(skipped=template)
    return FileContent(tuple(objects), skipped[0] if skipped else None, tuple(ignored), tuple(errors))


def _is_unused(api_version: str, kind: str) -> bool:
    """Whether an object need not be parsed. A List has to be, and so has an object that leads to a warning."""
    return kind not in _VERSIONS and not kind.endswith("List") and not api_version.startswith(_KUSTOMIZE)


def _is_template_line(position: FilePosition) -> bool:
    """Whether the line contains `{{`, an action of Go's templates, as in Helm charts. Reads the file again."""
    try:
        lines = Path(position.path).read_bytes().splitlines()
    except OSError:
        return False
    return 0 < position.line <= len(lines) and b"{{" in lines[position.line - 1]


def _kustomization(path: str) -> FileContent:
    found = next(documents(path, default_kind="Kustomization", default_version=f"{_KUSTOMIZE}v1beta1"), None)
    if isinstance(found, Document):
        return FileContent(skipped=_not_applied(found, path))
    return FileContent(skipped=found if isinstance(found, ManifestError) else None)


def _not_applied(document: Document, path: str) -> ManifestError:
    changes = [field for field in document.fields if field in _CHANGE_NAMES]
    would = f", though it may change names by {', '.join(changes)}" if changes else ""
    hint = f"pipe `kubectl kustomize {Path(path).parent}` into `manifests -` in its place"
    field = (changes[0],) if changes else ()
    return ManifestError(document.position(field), f"a kustomization is not applied{would}; {hint}")


def _read(document: Document, default_namespace: str) -> ManifestObject:
    known = _SUPPORTED.get((document.api_version, document.kind))
    metadata = document.fields.get("metadata")
    generated = isinstance(metadata, dict) and "generateName" in metadata and "name" not in metadata
    if known is None or generated:
        namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
        return ManifestObject(
            document.position(), document.kind, namespace if isinstance(namespace, str) else "", "", ObjectMeta()
        )
    shape, check = known
    meta = document.convert(AnyObject).metadata
    cluster_wide = document.kind == "Namespace"
    _check_name(document, meta, label=document.kind in {"Namespace", "Service"})
    body = document.convert(shape)
    if check is not None:
        check(document, body)
    namespace = "" if cluster_wide else meta.namespace or default_namespace
    body.metadata.namespace = namespace
    return ManifestObject(document.position(), document.kind, namespace, meta.name, meta, body)


def _check_name(document: Document, metadata: ObjectMeta, *, label: bool) -> None:
    if not (_LABEL if label else _SUBDOMAIN).fullmatch(metadata.name):
        expected = "a DNS label (a-z, 0-9, -)" if label else "a DNS name (a-z, 0-9, -, .)"
        raise document.error(("metadata", "name"), f"expected {expected}, found {metadata.name!r}")
    if metadata.namespace and not _LABEL.fullmatch(metadata.namespace):
        raise document.error(
            ("metadata", "namespace"), f"expected a DNS label (a-z, 0-9, -), found {metadata.namespace!r}"
        )


def _check_service(document: Document, service: ServiceObject) -> None:
    spec = service.spec
    _check_choice(document, ("spec", "type"), spec.type, SERVICE_TYPES)
    if spec.ipFamilyPolicy:
        _check_choice(document, ("spec", "ipFamilyPolicy"), spec.ipFamilyPolicy, FAMILY_POLICIES)
    for at, family in enumerate(spec.ipFamilies):
        _check_choice(document, ("spec", "ipFamilies", at), family, FAMILIES)
    if spec.clusterIP not in {"", HEADLESS}:
        _check_address(document, ("spec", "clusterIP"), spec.clusterIP)
    for at, address in enumerate(spec.clusterIPs):
        if address != HEADLESS:
            _check_address(document, ("spec", "clusterIPs", at), address)
    if spec.type == "ExternalName" and not spec.externalName:
        raise document.error(
            ("spec", "externalName"), "expected the name that a Service of type ExternalName points to"
        )
    for at, port in enumerate(spec.ports):
        _check_port(document, ("spec", "ports", at, "port"), port.port)
        if isinstance(port.targetPort, int):
            _check_port(document, ("spec", "ports", at, "targetPort"), port.targetPort)


def _check_slice(document: Document, given: ApiSlice) -> None:
    for at, port in enumerate(given.ports or ()):
        port.protocol = port.protocol or "TCP"
        if port.port is not None:
            _check_port(document, ("ports", at, "port"), port.port)
    if document.fields.get("addressType") == "FQDN":
        return
    for at, endpoint in enumerate(given.endpoints or ()):
        for index, address in enumerate(endpoint.addresses or ()):
            _check_address(document, ("endpoints", at, "addresses", index), address)


def _check_endpoints(document: Document, given: EndpointsObject) -> None:
    for at, subset in enumerate(given.subsets):
        for index, port in enumerate(subset.ports):
            _check_port(document, ("subsets", at, "ports", index, "port"), port.port)
        for index, address in enumerate(subset.addresses):
            _check_address(document, ("subsets", at, "addresses", index, "ip"), address.ip)


def _check_pod(document: Document, pod: PodObject) -> None:
    if pod.status.podIP:
        _check_address(document, ("status", "podIP"), pod.status.podIP)
    for at, address in enumerate(pod.status.podIPs):
        _check_address(document, ("status", "podIPs", at, "ip"), address.ip)


def _check_workload(document: Document, workload: WorkloadObject) -> None:
    if not 0 <= workload.spec.replicas <= MAX_PODS:
        raise document.error(
            ("spec", "replicas"), f"expected a number from 0 to {MAX_PODS}, found {workload.spec.replicas}"
        )
    if workload.spec.ordinals.start < 0:
        raise document.error(
            ("spec", "ordinals", "start"), f"expected a number from 0, found {workload.spec.ordinals.start}"
        )


def _check_job(document: Document, job: WorkloadObject) -> None:
    spec = job.spec
    _check_choice(document, ("spec", "completionMode"), spec.completionMode, COMPLETION_MODES)
    for field, number in (("parallelism", spec.parallelism), ("completions", spec.completions)):
        if number is not None and not 0 <= number <= MAX_PODS:
            raise document.error(("spec", field), f"expected a number from 0 to {MAX_PODS}, found {number}")
    if spec.completionMode == "Indexed" and spec.completions is None:
        raise document.error(("spec",), "expected completions, which an Indexed Job needs")


def _check_choice(document: Document, field: Field, found: str, choices: tuple[str, ...]) -> None:
    if found not in choices:
        raise document.error(field, f"expected {', '.join(choices[:-1])} or {choices[-1]}, found {found!r}")


def _check_address(document: Document, field: Field, found: str) -> None:
    try:
        ipaddress.ip_address(found)
    except ValueError:
        raise document.error(field, f"expected an IPv4 or IPv6 address, found {found!r}") from None


def _check_port(document: Document, field: Field, found: int) -> None:
    if not 0 < found <= 65535:
        raise document.error(field, f"expected a port number from 1 to 65535, found {found}")


_Check = Callable[[Document, Any], None]

_SUPPORTED: Final[dict[tuple[str, str], tuple[type[Body], _Check | None]]] = {
    ("v1", "Namespace"): (AnyObject, None),
    ("v1", "Service"): (ServiceObject, _check_service),
    ("v1", "Endpoints"): (EndpointsObject, _check_endpoints),
    ("v1", "Pod"): (PodObject, _check_pod),
    ("discovery.k8s.io/v1", "EndpointSlice"): (ApiSlice, _check_slice),
    ("multicluster.x-k8s.io/v1alpha1", "ServiceImport"): (ApiServiceImport, None),
    ("v1", "ReplicationController"): (WorkloadObject, _check_workload),
    ("apps/v1", "Deployment"): (WorkloadObject, _check_workload),
    ("apps/v1", "StatefulSet"): (WorkloadObject, _check_workload),
    ("apps/v1", "ReplicaSet"): (WorkloadObject, _check_workload),
    ("apps/v1", "DaemonSet"): (WorkloadObject, _check_workload),
    ("batch/v1", "Job"): (WorkloadObject, _check_job),
}

_NO_METADATA: Final = ObjectMeta()

_VERSIONS: Final = {kind: version for version, kind in _SUPPORTED}
"""The apiVersion of each kind that is used."""
