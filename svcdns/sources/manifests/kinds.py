"""Reads the objects of manifest files. The module `validation` checks their fields as an API server does.

A document becomes a `ManifestObject`. An object of a kind that is not used, such as a ConfigMap, has no `body`. Kinds
are distinguished by their apiVersion, too. Files of other tools are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from svcdns.sources.api.decoding import ApiServiceImport, ApiSlice
from svcdns.sources.manifests.documents import Document, documents
from svcdns.sources.manifests.errors import (
    FilePosition,
    ManifestError,
    NotKubernetesError,
    NotYamlError,
)
from svcdns.sources.manifests.portions import UnusedObject
from svcdns.sources.manifests.schemas import (
    AnyObject,
    EndpointsObject,
    ObjectMeta,
    PodObject,
    ServiceObject,
    WorkloadObject,
)
from svcdns.sources.manifests.validation import (
    Check,
    Refusals,
    check_endpoints,
    check_job,
    check_metadata,
    check_pod,
    check_service,
    check_slice,
    check_workload,
)

DEFAULT_NAMESPACE: Final = "default"
SHOWN_REFUSALS: Final = 50
"""The most fields of a file that an API server would refuse for which a line is logged."""

_KUSTOMIZATION_FILES: Final = frozenset({"kustomization.yaml", "kustomization.yml", "kustomization"})
_KUSTOMIZE: Final = "kustomize.config.k8s.io/"
_CHANGE_NAMES: Final = frozenset({
    "namespace", "namePrefix", "nameSuffix", "configMapGenerator", "secretGenerator", "generators", "helmCharts",
    "patches", "patchesStrategicMerge", "patchesJson6902", "replicas", "replacements", "transformers", "labels",
    "commonLabels", "components", "vars",
})  # fmt: skip
"""Fields of a kustomization that may change DNS names, or the answers for a name."""

Body = ServiceObject | ApiSlice | EndpointsObject | PodObject | WorkloadObject | AnyObject | ApiServiceImport


@dataclass(frozen=True, slots=True)
class ManifestObject:
    """An object of a manifest.

    `namespace` is empty for a Namespace. `body` is None for a kind that is not used.
    """

    position: FilePosition
    kind: str
    namespace: str
    name: str
    metadata: ObjectMeta
    body: Body | None = None


class ObjectName(NamedTuple):
    """Identifies an object of a manifest file by its kind, namespace and name."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of a file.

    - `skipped` is the reason why the file, or a part of it, is no manifest.
    - `ignored` has objects whose kind is known, but whose apiVersion is not.
    - `refused` has the fields that an API server would refuse. `left_out` has the objects that cannot be served for
      that reason.
    - If `errors` is not empty, the file cannot be used.
    """

    objects: tuple[ManifestObject, ...] = ()
    skipped: ManifestError | None = None
    ignored: tuple[ManifestError, ...] = ()
    errors: tuple[ManifestError, ...] = ()
    refused: tuple[ManifestError, ...] = ()
    left_out: Mapping[ObjectName, ManifestError] = field(default_factory=dict)
    patches: frozenset[str] = frozenset()
    """The real paths of the files that a kustomization names as patches. They are not objects of their own."""

    @property
    def warnings(self) -> list[str]:
        """Returns the log lines about skipped parts, ignored objects and refused fields."""
        skipped = [] if self.skipped is None else [f"{self.skipped}; skipped"]
        refused = [*map(str, self.refused[:SHOWN_REFUSALS])]
        if len(self.refused) > SHOWN_REFUSALS:
            at, more = self.refused[SHOWN_REFUSALS].position, len(self.refused) - SHOWN_REFUSALS
            refused.append(f"{at}: {more} more fields from here on that an API server would refuse")
        return [*skipped, *map(str, self.ignored), *refused]


@dataclass(slots=True)
class Parsed:
    """The content of a file, or of a part of a file. The fields are those of `FileContent`.

    `not_yaml` is the error if the file is not YAML.
    """

    objects: list[ManifestObject] = field(default_factory=list)
    skipped: list[ManifestError] = field(default_factory=list)
    ignored: list[ManifestError] = field(default_factory=list)
    errors: list[ManifestError] = field(default_factory=list)
    refused: list[ManifestError] = field(default_factory=list)
    left_out: dict[ObjectName, ManifestError] = field(default_factory=dict)
    not_yaml: NotYamlError | None = None


def read(path: str, namespace: str = DEFAULT_NAMESPACE) -> FileContent:
    """Reads a file. Objects without a namespace get `namespace`.

    Errors are in the result; none is raised.
    """
    if is_kustomization(path):
        return _kustomization(path)
    return content(path, [parse(path, documents(path, is_unused=is_unused), namespace)])


def content(path: str, parts: Sequence[Parsed]) -> FileContent:
    """Returns the content of a file from its parts, in order.

    The content of a template has only the reason why it is skipped.
    """
    errors = tuple(error for part in parts for error in part.errors)
    refused = tuple(error for part in parts for error in part.refused)
    not_yaml = next((part.not_yaml for part in parts if part.not_yaml is not None), None)
    skipped = not_yaml or _template_line(path, (*errors, *refused))
    if skipped is not None:
        return FileContent(skipped=skipped)
    return FileContent(
        tuple(item for part in parts for item in part.objects),
        next((error for part in parts for error in part.skipped), None),
        tuple(error for part in parts for error in part.ignored),
        errors,
        refused,
        {name: error for part in parts for name, error in part.left_out.items()},
    )


def is_kustomization(path: str) -> bool:
    """Returns True if a file has one of the names of kustomizations."""
    return Path(path).name.lower() in _KUSTOMIZATION_FILES


def parse(path: str, found: Iterable[Document | UnusedObject | ManifestError], namespace: str) -> Parsed:
    """Reads the documents that were found in the file `path`, or in a part of it.

    Objects without a namespace get `namespace`. Errors are in the result.
    """
    parsed = Parsed()
    for document in found:
        try:
            if isinstance(document, ManifestError):
                raise document
            _add(parsed, path, document, namespace)
        except NotYamlError as error:
            parsed.not_yaml = error
            break
        except NotKubernetesError as error:
            parsed.skipped.append(error)
        except ManifestError as error:
            parsed.errors.append(error)
    return parsed


def _add(parsed: Parsed, path: str, found: Document | UnusedObject, namespace: str) -> None:
    """Adds an object to `parsed`. Raises ManifestError."""
    if isinstance(found, UnusedObject):
        parsed.objects.append(ManifestObject(found.position, found.kind, found.namespace, "", NO_METADATA))
        return
    if found.api_version.startswith(_KUSTOMIZE):
        parsed.skipped.append(_not_applied(found, path))
        return
    refusals = Refusals(found)
    item = _read(found, namespace, refusals)
    parsed.refused += refusals.errors
    if refusals.reason is not None:
        parsed.left_out[ObjectName(item.kind, item.namespace, item.name)] = refusals.reason
        return
    parsed.objects.append(item)
    version = _VERSIONS.get(found.kind)
    if version is not None and item.body is None:
        of_version = f" of {found.api_version}" if version != found.api_version else ""
        expected = f"{version} was expected" if of_version else "since its name is not known before it is made"
        parsed.ignored.append(ManifestError(found.position(), f"{found.kind}{of_version} is ignored, {expected}"))


def is_unused(api_version: str, kind: str) -> bool:
    """Returns True if an object of this apiVersion and kind need not be parsed.

    Lists and objects of Kustomize must be parsed.
    """
    return kind not in _VERSIONS and not kind.endswith("List") and not api_version.startswith(_KUSTOMIZE)


def _template_line(path: str, errors: Iterable[ManifestError]) -> ManifestError | None:
    """Returns the first error in a line with `{{`, which begins an action of a Go template, or None."""
    lines: list[bytes] | None = None
    for error in errors:
        if lines is None:
            try:
                content = Path(path).read_bytes()
            except OSError:
                return None
            lines = content.splitlines() if b"{{" in content else []
        if 0 < error.position.line <= len(lines) and b"{{" in lines[error.position.line - 1]:
            return error
    return None


def _kustomization(path: str) -> FileContent:
    found = next(documents(path, default_kind="Kustomization", default_version=f"{_KUSTOMIZE}v1beta1"), None)
    if isinstance(found, Document):
        return FileContent(skipped=_not_applied(found, path), patches=frozenset(_patches(found, Path(path).parent)))
    return FileContent(skipped=found if isinstance(found, ManifestError) else None)


def _patches(document: Document, folder: Path) -> Iterator[str]:
    """Yields the real paths of the files in `folder` that a kustomization names as patches."""
    for key in ("patches", "patchesJson6902", "patchesStrategicMerge"):
        entries = document.fields.get(key)
        for entry in entries if isinstance(entries, list) else ():
            path = entry.get("path") if isinstance(entry, dict) else entry
            if isinstance(path, str) and "\n" not in path:
                yield os.path.realpath(folder / path)


def _not_applied(document: Document, path: str) -> ManifestError:
    changes = [field for field in document.fields if field in _CHANGE_NAMES]
    would = f", though it may change names by {', '.join(changes)}" if changes else ""
    hint = f"pipe `kubectl kustomize {Path(path).parent}` into `manifests -` in its place"
    field = (changes[0],) if changes else ()
    return ManifestError(document.position(field), f"a kustomization is not applied{would}; {hint}")


def _read(document: Document, default_namespace: str, refusals: Refusals) -> ManifestObject:
    known = _SUPPORTED.get((document.api_version, document.kind))
    metadata = document.fields.get("metadata")
    generated = isinstance(metadata, dict) and "generateName" in metadata and "name" not in metadata
    if known is None or generated:
        namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
        return ManifestObject(
            document.position(), document.kind, namespace if isinstance(namespace, str) else "", "", ObjectMeta()
        )
    shape, check = known
    meta = document.convert(AnyObject, refusals.add_wrong_type).metadata
    check_metadata(refusals, meta)
    body = document.convert(shape, refusals.add_wrong_type)
    cluster_wide = document.kind == "Namespace"
    if check is not None:
        check(refusals, body)
    namespace = "" if cluster_wide else meta.namespace or default_namespace
    body.metadata.namespace = namespace
    return ManifestObject(document.position(), document.kind, namespace, meta.name, meta, body)


_SUPPORTED: Final[dict[tuple[str, str], tuple[type[Body], Check | None]]] = {
    ("v1", "Namespace"): (AnyObject, None),
    ("v1", "Service"): (ServiceObject, check_service),
    ("v1", "Endpoints"): (EndpointsObject, check_endpoints),
    ("v1", "Pod"): (PodObject, check_pod),
    ("discovery.k8s.io/v1", "EndpointSlice"): (ApiSlice, check_slice),
    ("multicluster.x-k8s.io/v1alpha1", "ServiceImport"): (ApiServiceImport, None),
    ("v1", "ReplicationController"): (WorkloadObject, check_workload),
    ("apps/v1", "Deployment"): (WorkloadObject, check_workload),
    ("apps/v1", "StatefulSet"): (WorkloadObject, check_workload),
    ("apps/v1", "ReplicaSet"): (WorkloadObject, check_workload),
    ("apps/v1", "DaemonSet"): (WorkloadObject, check_workload),
    ("batch/v1", "Job"): (WorkloadObject, check_job),
}

NO_METADATA: Final = ObjectMeta()
"""The metadata of an object that was not parsed."""

SHAPES: Final[dict[str, type[Body]]] = {kind: shape for (_, kind), (shape, _) in _SUPPORTED.items()}
"""The type of an object's body, for each kind that is used."""

_VERSIONS: Final = {kind: version for version, kind in _SUPPORTED}
"""The apiVersion of each kind that is used."""
