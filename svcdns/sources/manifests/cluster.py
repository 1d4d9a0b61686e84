"""Builds the whole cluster from manifest files: every object by kind, namespace and name.

The result depends only on the current content of the files, so the cluster is the same at every start. Unchanged files
are not parsed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from svcdns.cluster.changes import KINDS, Kind
from svcdns.cluster.objects import ClusterObject, Namespace, ObjectName, Pod
from svcdns.process.heap import free_in_steps
from svcdns.sources.api import decoding
from svcdns.sources.api.decoding import ApiServiceImport, ApiSlice
from svcdns.sources.label_selectors import Matcher
from svcdns.sources.manifests import kinds, large_files
from svcdns.sources.manifests.endpoint_slices import PodsByLabel, mirrored, slices_of_pods
from svcdns.sources.manifests.errors import FilePosition, ManifestError, WrongTypeError, raise_all
from svcdns.sources.manifests.files import FoundFiles, ManifestFile
from svcdns.sources.manifests.kinds import DEFAULT_NAMESPACE, FileContent, ManifestObject, is_kustomization
from svcdns.sources.manifests.kinds import ObjectName as ObjectId
from svcdns.sources.manifests.large_files import LARGE_FILE
from svcdns.sources.manifests.schemas import EndpointsObject, PodObject, ServiceObject
from svcdns.sources.manifests.services import families, services, written_ips
from svcdns.sources.manifests.workloads import OVER, ClusterPod, pods

ALWAYS_THERE: Final = (DEFAULT_NAMESPACE, "kube-system")
"""Namespaces that exist even without a manifest."""

MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
SLICE_CONTROLLER: Final = "endpointslice-controller.k8s.io"
MIRRORING_CONTROLLER: Final = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR: Final = "endpointslice.kubernetes.io/skip-mirror"
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"


class ObjectKey(NamedTuple):
    """Identifies an object of the cluster by its kind, namespace and name."""

    kind: Kind
    namespace: str
    name: str


_Labelled = tuple[ClusterObject, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects the objects of the cluster from manifests, by kind and labels.

    The options select the same objects as at an API server.
    """

    kinds: tuple[Kind, ...]
    keep_zones: bool
    labels: Matcher
    namespace_labels: Matcher
    clients: bool = False
    """True to keep what identifies clients (`WatchOptions.clients`)."""
    pod_labels: tuple[str, ...] = ()
    """The keys of the labels of Pods to keep (`WatchOptions.pod_labels`)."""

    def admits(self, kind: Kind, labels: Mapping[str, str]) -> bool:
        """Returns True if an object of this kind with these labels is selected.

        Namespaces and ServiceImports are matched against `namespace_labels`, all other objects against `labels`.
        """
        by_namespace = kind in {Kind.NAMESPACE, Kind.SERVICE_IMPORT}
        return kind in self.kinds and (self.namespace_labels if by_namespace else self.labels)(labels)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The objects of a cluster, in the order in which they are sent.

    `terminating` has the Pods that are being deleted. `ignored` has the kinds of objects in the manifests that are not
    used.
    """

    objects: dict[ObjectKey, ClusterObject]
    terminating: frozenset[ObjectKey]
    ignored: frozenset[str]


class Reader:
    """Reads manifest files. A file is parsed again only if its size, times or inode have changed.

    Not safe for threads.
    """

    def __init__(self, namespace: str = DEFAULT_NAMESPACE) -> None:
        """`namespace` is the namespace of objects whose manifests have none."""
        self._namespace = namespace
        self._read: dict[str, tuple[ManifestFile, FileContent]] = {}
        self._used: dict[str, FileContent] = {}

    @property
    def warnings(self) -> list[str]:
        """Returns one line for each file or object that is skipped or ignored, and for each field that is refused."""
        return [warning for content in self._used.values() for warning in content.warnings]

    @property
    def objects(self) -> list[ManifestObject]:
        """Returns the objects in the files that were read last."""
        return [item for content in self._used.values() for item in content.objects]

    def read(self, found: FoundFiles) -> list[ManifestObject]:
        """Returns the objects of all files, in order.

        Raises one ManifestError with all errors: missing paths, broken files, and objects that occur more than once. A
        file is also broken if objects that were used at the last read would be skipped now.
        """
        errors = [found.missing] if found.missing is not None else []
        known, self._read = self._read, {file.path: (file, self._content(file)) for file in found.files}
        patches = {patch: path for path, (_, content) in self._read.items() for patch in content.patches}
        last, self._used = self._used, {}
        for path, (_, content) in list(self._read.items()):
            before = last.get(path)
            now = _without_patch(path, content, patches)
            broken = _broken(before, now)
            errors += broken
            if not broken:
                self._used[path] = now
            elif before is not None:
                self._used[path] = before
                self._read[path] = known[path]
            else:
                del self._read[path]
        written = [item for content in self._used.values() for item in content.objects]
        kustomized = any(is_kustomization(path) for path in self._read)
        raise_all(errors or list(_written_twice(written, kustomized=kustomized)))
        return written

    def _content(self, file: ManifestFile) -> FileContent:
        before = self._read.get(file.path)
        if before is not None and before[0] == file:
            return before[1]
        read = large_files.read if file.stamp.size >= LARGE_FILE else kinds.read
        return read(file.path, self._namespace)


def _without_patch(path: str, content: FileContent, patches: Mapping[str, str]) -> FileContent:
    """Returns the content of a file. If a kustomization names the file as a patch, the content has no objects."""
    kustomization = patches.get(os.path.realpath(path)) if patches else None
    if kustomization is None or not (content.objects or content.left_out):
        return content
    return FileContent(
        skipped=ManifestError(FilePosition(path, 1), f"a patch of {kustomization}, which is not applied")
    )


def _broken(before: FileContent | None, now: FileContent) -> list[ManifestError]:
    """Returns the errors of a file that prevent its use.

    If the file was used `before`, a new value of a wrong type is an error, and so is an object that is skipped `now`.
    """
    broken = list(now.errors)
    if before is not None:
        known = {error.text for error in before.refused}
        broken += (
            error.cause for error in now.refused if isinstance(error, WrongTypeError) and error.text not in known
        )
        if now.skipped is not None and _uses_more(before, now):
            broken.append(now.skipped)
        used = {(item.kind, item.namespace, item.name) for item in before.objects} if now.left_out else set()
        broken += (error for name, error in now.left_out.items() if name in used)
    return broken


def _uses_more(before: FileContent, now: FileContent) -> bool:
    """Returns True if fewer objects of a file are used `now` than were used `before`.

    Call it only if a part of the file is skipped now.
    """
    return bool(before.objects) and (before.skipped is None or not now.objects)


def _written_twice(written: Iterable[ManifestObject], *, kustomized: bool) -> Iterator[ManifestError]:
    """Yields errors for objects that occur more than once.

    One error reports all objects that the same two files have in common. If a file is a kustomization (`kustomized`),
    one error reports the objects of all files.
    """
    first: dict[ObjectId, ManifestObject] = {}
    again: dict[object, list[ManifestObject]] = {}
    for item in written:
        if item.body is None:
            continue
        same = first.setdefault(ObjectId(item.kind, item.namespace, item.name), item)
        if same is not item:
            paths = same.position.path, item.position.path
            of_files = "" if kustomized else paths
            again.setdefault(id(item) if paths[0] == paths[1] else of_files, []).append(item)
    for item, *more in again.values():
        same = first[ObjectId(item.kind, item.namespace, item.name)]
        name = f"{item.namespace}/{item.name}".lstrip("/")
        text = f"expected each object once, {item.kind} {name} is written in {same.position} already"
        if more:
            text += f", and so {'is 1 more object' if len(more) == 1 else f'are {len(more)} more objects'}"
        if item.position.path != same.position.path:
            text += _KUSTOMIZED_HINT if kustomized else _HINT
        yield ManifestError(item.position, text)
    free_in_steps(first)


_HINT: Final = "; the option exclude leaves out a file"
_KUSTOMIZED_HINT: Final = (
    "; leave out all overlays but one with the option exclude,"
    " or pipe `kubectl kustomize` of one overlay into `manifests -`"
)


def build(written: list[ManifestObject], selection: Selection) -> Cluster:
    """Returns the cluster that the objects in `written` describe.

    Raises ManifestError if an address range is too small for them.
    """
    reserved = set(_written_addresses(written))
    all_pods = pods(written, reserved)
    given = [(item, item.body) for item in written if isinstance(item.body, ServiceObject)]
    labelled: Iterator[_Labelled] = chain(
        _namespaces(written, keep_labels=selection.clients),
        _slices(written, given, PodsByLabel(all_pods), selection),
        zip(services(given, reserved), (item.metadata.labels for item, _ in given), strict=True),
        ((_pod(pod, selection), pod.labels) for pod in all_pods if _listed(pod)),
        _imports(written),
    )
    objects = {_key(item): item for item, labels in labelled if selection.admits(_kind(item), labels)}
    terminating = frozenset(ObjectKey(Kind.POD, pod.namespace, pod.name) for pod in all_pods if pod.terminating)
    free_in_steps(given)
    free_in_steps(all_pods)
    return Cluster(objects, terminating, frozenset(item.kind for item in written if item.body is None))


def _key(item: ClusterObject) -> ObjectKey:
    return ObjectKey(_kind(item), item.namespace, item.name)


def _kind(item: ClusterObject) -> Kind:
    return KINDS[type(item)]


def _listed(pod: ClusterPod) -> bool:
    """Returns True if the Pod runs: it has not ended and is not being deleted."""
    return pod.phase not in {*OVER, "Unknown"} and not pod.terminating


def _pod(pod: ClusterPod, selection: Selection) -> Pod:
    primary, *more = pod.addresses
    labels = decoding.kept_labels(pod.labels, selection.pod_labels)
    if not selection.clients:
        return Pod(pod.namespace, pod.name, primary, labels=labels)
    return Pod(pod.namespace, pod.name, primary, tuple(more), pod.host_network, labels)


def _written_addresses(written: Iterable[ManifestObject]) -> Iterator[str]:
    for item in written:
        match item.body:
            case ServiceObject(spec=spec):
                yield from written_ips(spec)
            case PodObject(status=status):
                yield from filter(None, (status.podIP, *(address.ip for address in status.podIPs)))
            case EndpointsObject(subsets=subsets):
                yield from (address.ip for subset in subsets for address in subset.addresses)
            case ApiSlice(endpoints=endpoints):
                yield from (address for endpoint in endpoints or () for address in endpoint.addresses or ())
            case _:
                pass


def _namespaces(written: Iterable[ManifestObject], *, keep_labels: bool) -> Iterator[_Labelled]:
    """Yields the Namespaces of the manifests, the namespaces of all other objects, and `default` and `kube-system`."""
    labels: dict[str, Mapping[str, str]] = {name: {} for name in ALWAYS_THERE}
    for item in written:
        if item.kind == "Namespace" and item.body is not None:
            labels[item.name] = item.metadata.labels
        elif item.namespace:
            labels.setdefault(item.namespace, {})
    for name, own in labels.items():
        found = {**own, NAMESPACE_NAME: name}
        yield Namespace(name, labels=tuple(sorted(found.items())) if keep_labels else ()), found


def _slices(
    written: Iterable[ManifestObject],
    given: Iterable[tuple[ManifestObject, ServiceObject]],
    found: PodsByLabel,
    selection: Selection,
) -> Iterator[_Labelled]:
    """Yields the EndpointSlices of the cluster: built from Pods, taken from manifests, or mirrored from Endpoints
    objects.

    A slice in a manifest is ignored if its Service gets slices that are built from Pods. An Endpoints object is ignored
    if a manifest has a slice that mirrors it.
    """
    built: set[ObjectName] = set()
    unselective: dict[ObjectName, ManifestObject] = {}
    for item, service in given:
        name = (item.namespace, item.name)
        if not service.spec.selector:
            unselective[name] = item
        elif service.spec.type != "ExternalName" and (
            matching := found.matching(item.namespace, service.spec.selector)
        ):
            built.add(name)
            labels = {**item.metadata.labels, decoding.SERVICE_LABEL: item.name, MANAGED_BY: SLICE_CONTROLLER}
            of_pods = slices_of_pods(*name, service.spec, families(service.spec), matching, zones=selection.keep_zones)
            yield from ((slice_, labels) for slice_ in of_pods)
    mirrors: set[ObjectName] = set()
    for item in written:
        if isinstance(item.body, ApiSlice):
            labels = item.metadata.labels
            name = (item.namespace, labels.get(decoding.SERVICE_LABEL, ""))
            if name in built and labels.get(MANAGED_BY) == SLICE_CONTROLLER:
                continue
            if labels.get(MANAGED_BY) == MIRRORING_CONTROLLER:
                mirrors.add(name)
            yield from (
                (trimmed, labels) for trimmed in _written_slices(item, item.body, keep_zones=selection.keep_zones)
            )
    for item in written:
        name = (item.namespace, item.name)
        if isinstance(item.body, EndpointsObject) and name in unselective and name not in mirrors:
            labels = item.metadata.labels
            if labels.get(SKIP_MIRROR) != "true":
                labels = {**labels, decoding.SERVICE_LABEL: item.name, MANAGED_BY: MIRRORING_CONTROLLER}
                yield from ((slice_, labels) for slice_ in mirrored(*name, item.body))


def _written_slices(item: ManifestObject, body: ApiSlice, *, keep_zones: bool) -> Iterator[ClusterObject]:
    yield decoding.endpoint_slice(body, zones=keep_zones)
    if decoding.IMPORTED_SERVICE_LABEL in item.metadata.labels:
        yield decoding.imported_slice(body)


def _imports(written: Iterable[ManifestObject]) -> Iterator[_Labelled]:
    for item in written:
        if isinstance(item.body, ApiServiceImport):
            yield decoding.service_import(item.body), item.metadata.labels
