"""A source of changes that reads a cluster from YAML files and folders, and watches them for later edits.

Rules:

1. Broken files at the start are an error that names all of them. If a file breaks later, one log line has the file and
   line, and the previous objects stay until the file is usable again.
2. A file that is not a manifest is skipped, with one WARNING line.
3. If a mount hangs, there is one WARNING line, and the previous objects stay.
4. After an edit, only the differences are reported.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, nullcontext
from typing import Final

import msgspec

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice
from svcdns.cluster.watch_options import SourceError, WatchOptions
from svcdns.log_line import LogLine
from svcdns.process.blocking_io import BlockingCalls
from svcdns.process.heap import collector_paused, free_in_steps
from svcdns.sources.change_source import Apply
from svcdns.sources.label_selectors import check_label_selector, matcher
from svcdns.sources.manifests import implied
from svcdns.sources.manifests.cluster import Cluster, ObjectKey, Reader, Selection, build
from svcdns.sources.manifests.errors import ManifestError
from svcdns.sources.manifests.file_watch import Watch, folder_changes
from svcdns.sources.manifests.files import FoundFiles, find
from svcdns.sources.snapshot_file import Origin

MANY: Final = 1000
"""The number of objects from which on the garbage collector is paused while a cluster is built from them."""


class ManifestsSource:
    """Reports the cluster that the files and folders in `options.manifests` describe. Implements ChangeSource."""

    is_unreachable = False
    """Always False, as there is no API server."""

    def __init__(self, options: WatchOptions, *, log: logging.Logger, watch: Watch = folder_changes) -> None:
        """Checks the selectors. Raises SourceError for a wrong selector.

        No file is read. The options about an API server are ignored.
        """
        for option, text in (("labels", options.labels), ("namespace_labels", options.namespace_labels)):
            try:
                check_label_selector(text)
            except ValueError as error:
                raise SourceError(f"{option}: {error}") from error
        self._selection = Selection(
            _kinds(options),
            options.zones,
            matcher(options.labels),
            matcher(options.namespace_labels),
            clients=options.clients,
            pod_labels=options.pod_labels,
        )
        self._paths, self._exclude = options.manifests, options.exclude
        self._log = log
        self._watch = watch
        self._reader = Reader(options.default_namespace)
        self._calls = BlockingCalls(log)
        self._good: Cluster | None = None
        self._tried: object = None
        self._last_error = ""
        self._logged_ignored = False
        self._warned: frozenset[str] = frozenset()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Returns the kinds of objects that the source reports, such as Service and EndpointSlice."""
        return self._selection.kinds

    @property
    def is_unusable(self) -> bool:
        """Returns True if the files have no object, and something in them was skipped."""
        return not self._reader.objects and bool(self._reader.warnings)

    def ages(self) -> dict[Kind, float]:
        """Returns 0 for every kind of object, because files are read as soon as they change."""
        return dict.fromkeys(self.kinds, 0.0)

    async def origin(self) -> Origin:
        """Raises SourceError, because manifests have no snapshot that needs the identity."""
        raise SourceError("manifests have no snapshot")

    def assume(self, age: float) -> None:
        """Does nothing, because manifests have no snapshot."""

    async def configure(self) -> None:
        """Reads all files once. Raises ManifestError if a file is broken."""
        await self._update(await self._find())

    def load(self) -> Cluster:
        """Reads the files, and returns the cluster that they describe. Blocks. Raises ManifestError."""
        return self._load(find(self._paths, self._exclude))

    async def follow(self, apply: Apply) -> None:
        """Passes every change to `apply`. Ends only when cancelled, or with an error of `batches`."""
        async for changes in self.batches():
            work = apply(changes)
            if work is not None:
                await work

    async def batches(self) -> AsyncGenerator[Iterable[Change], None]:
        """Yields the changes after each edit, beginning with a full list of each kind. Ends only when cancelled or
        closed.

        Raises ManifestError if the files have errors at the start, and SourceError if the folders cannot be watched.
        """
        last: Cluster | None = None
        while True:
            found = await self._find()
            async with aclosing(self._watch(frozenset(found.directories))) as edits:
                try:
                    await anext(edits)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise SourceError(f"manifests: cannot watch {', '.join(self._paths)}: {error}") from error
                watched, found = found.directories, await self._find()
                cluster = await self._update(found)
                changes: Iterable[Change] = _full_list(cluster, self.kinds)
                if last is not None:
                    changes = await self._calls.run(self._shown, _all_differences, last.objects, cluster.objects)
                yield changes
                if last is not None and last is not cluster:
                    used = [changes if isinstance(changes, list) else [], last.objects]
                    await self._calls.run(self._shown, _free, used)
                last = cluster
                if found.directories == watched:
                    await anext(edits)

    async def _find(self) -> FoundFiles:
        return await self._calls.run(self._shown, find, self._paths, self._exclude)

    @property
    def _shown(self) -> str:
        return f"manifests in {', '.join(self._paths)}"

    async def _update(self, found: FoundFiles) -> Cluster:
        """Reads the files if they have changed. Returns the cluster, or the previous one if a file is broken."""
        stamps = (found.files, str(found.missing))
        if self._good is not None and stamps == self._tried:
            return self._good
        self._tried = stamps
        try:
            cluster = await self._calls.run(self._shown, self._load, found)
        except ManifestError as error:
            if self._good is None:
                raise
            if str(error) != self._last_error:
                for line in str(error).split("\n"):
                    self._log.error(LogLine("manifests: the last good state stays", error=line))
            self._last_error = str(error)
            return self._good
        if self._last_error:
            self._log.info("manifests: good again")
        self._last_error = ""
        self._log_warnings()
        self._log_ignored(cluster)
        self._good = cluster if self._good is None else _keep_terminating(self._good, cluster)
        return self._good

    def _load(self, found: FoundFiles) -> Cluster:
        before = self._reader.objects
        written = self._reader.read(found)
        free_in_steps(before)
        with collector_paused() if len(written) >= MANY else nullcontext():
            return build([*implied.services(written), *written], self._selection)

    def _log_warnings(self) -> None:
        warnings = self._reader.warnings
        for warning in warnings:
            if warning not in self._warned:
                position, _, error = warning.partition(": ")
                if error.endswith("; skipped"):
                    error = error.removesuffix("; skipped")
                    self._log.warning(LogLine("a manifest is skipped", position=position, error=error))
                else:
                    self._log.warning(LogLine("a manifest has a problem", position=position, error=error))
        self._warned = frozenset(warnings)

    def _log_ignored(self, cluster: Cluster) -> None:
        if cluster.ignored and not self._logged_ignored:
            self._logged_ignored = True
            kinds = sorted(cluster.ignored)
            self._log.info(LogLine("manifests: ignored kinds that no DNS name depends on", kinds=kinds))


def _free(used: list[list[Change] | dict[ObjectKey, ClusterObject]]) -> None:
    for items in used:
        free_in_steps(items)


def _kinds(options: WatchOptions) -> tuple[Kind, ...]:
    asked_for = {
        Kind.ENDPOINT_SLICE: options.endpoint_slices,
        Kind.POD: options.pods,
        Kind.SERVICE_IMPORT: options.multicluster,
        Kind.IMPORTED_SLICE: options.multicluster,
    }
    return tuple(kind for kind in Kind if asked_for.get(kind, True))


def _full_list(cluster: Cluster, kinds: tuple[Kind, ...]) -> Iterator[Change]:
    for kind in kinds:
        yield Begin(kind)
        yield from (Put(item) for key, item in cluster.objects.items() if key.kind == kind)
        yield Complete(kind)


def _keep_terminating(old: Cluster, new: Cluster) -> Cluster:
    """Returns the new cluster, in which Pods that are being deleted have their state from the old one."""
    unchanged = {key: old.objects[key] for key in new.terminating if key in old.objects}
    return Cluster({**new.objects, **unchanged}, new.terminating, new.ignored)


def differences(old: dict[ObjectKey, ClusterObject], new: dict[ObjectKey, ClusterObject]) -> Iterator[Change]:
    """Yields the changes from one state to another: new and changed objects first, then removals."""
    changed = [item for key, item in new.items() if old.get(key) != item]
    services = {(item.namespace, item.service) for item in changed if isinstance(item, EndpointSlice)}
    still_there: set[tuple[str, str, Endpoint]] = set()
    for item in new.values():
        if isinstance(item, EndpointSlice) and (item.namespace, item.service) in services:
            still_there.update((item.namespace, item.service, endpoint) for endpoint in item.endpoints)
    bridged = []
    for item in changed:
        bridge = _bridge(old.get(ObjectKey(Kind.ENDPOINT_SLICE, item.namespace, item.name)), item, still_there)
        yield Put(bridge or item)
        if bridge is not None:
            bridged.append(item)
    yield from map(Put, bridged)
    yield from (Gone(*key) for key in reversed(old) if key not in new)


def _all_differences(old: dict[ObjectKey, ClusterObject], new: dict[ObjectKey, ClusterObject]) -> list[Change]:
    return list(differences(old, new))


def _bridge(
    old: ClusterObject | None, new: ClusterObject, still_there: set[tuple[str, str, Endpoint]]
) -> EndpointSlice | None:
    """Returns the slice `new` together with the endpoints that have moved from it to another slice of the same Service.

    Returns None if no endpoint has moved. Send the result before `new`, so that a moved endpoint is never missing.
    `still_there` has (namespace, Service, endpoint) of every endpoint in the new state.
    """
    if not isinstance(new, EndpointSlice) or not isinstance(old, EndpointSlice):
        return None
    own = set(new.endpoints)
    moved = tuple(e for e in old.endpoints if e not in own and (new.namespace, new.service, e) in still_there)
    return msgspec.structs.replace(new, endpoints=new.endpoints + moved) if moved else None
