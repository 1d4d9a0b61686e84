"""The cluster views: which clusters are watched, from which source, and with which snapshot.

A view holds the objects that one set of watch options selects. Server blocks with the same options share a view. A
reload that does not change the options does not restart the watch. A view with a snapshot starts with the objects in
the snapshot file.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from math import inf
from time import perf_counter
from types import MappingProxyType
from typing import Final

from svcdns.cluster.changes import Change, Confirmed, Gone, Kind, Put
from svcdns.cluster.objects import EndpointSlice, Service
from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions
from svcdns.control.cluster_view import ClusterView, Difference, ViewKey
from svcdns.control.configuration import WatchedCluster
from svcdns.control.snapshot_writer import SnapshotWriter
from svcdns.corefile.errors import CorefileError
from svcdns.errors import SvcdnsError
from svcdns.eventloop.time_slice import TimeSlice
from svcdns.feed.frames import SourceKinds
from svcdns.log_line import LogLine
from svcdns.plugins.kubernetes.metrics import PROGRAMMING_DURATION, RECEIVED, REST_DURATION, REST_REQUESTS, VIEW_AGE
from svcdns.sources.api.resources import QUALIFIED
from svcdns.sources.change_source import ChangeSource
from svcdns.telemetry.counters import Counters, samples

Send = Callable[[ClusterView, Difference], None]
"""Sends a difference in a view to the workers."""

CONFIRM_STEP: Final = 1.0
"""Workers get a confirmation only if it is at least this many seconds newer than the last one that they got."""
SUCCESSOR_WAIT: Final = 10.0
"""Seconds that a restarted control process waits for the first list before it applies a snapshot.

The workers already have newer objects than the snapshot file, and the list usually arrives earlier.
"""
APPLY_SLICE: Final = 0.002
"""Seconds for which changes of one source are applied before other work of the event loop has its turn."""
CONFIGURE_LIMIT: Final = 60.0
"""Seconds that a source may take to read its configuration: manifests, certificates or kubeconfig."""


class RestMetrics:
    """Metrics of the requests to API servers."""

    def __init__(self, counters: Counters) -> None:
        """`counters` must be those of the control process."""
        self._counters = counters

    def request(self, verb: str, host: str, code: str, method: str, seconds: float | None) -> None:
        """Counts one request. `seconds` is the time until the response header, or None for a watch."""
        self._counters.count(REST_REQUESTS, code, method, host)
        if seconds is not None:
            self._counters.observe(REST_DURATION, self._counters.cell(REST_DURATION, verb, host), seconds)

    def received(self, resource: str, octets: int) -> None:
        """Counts the octets of a response body for `resource`."""
        self._counters.count(RECEIVED, resource, amount=octets)


def number_of(watch: bytes) -> int:
    """Returns the number of the cluster view with these encoded watch options.

    The number is the same in every control process. Workers use it to identify their indexes.
    """
    return int.from_bytes(hashlib.sha256(watch).digest()[:6], "big")


def shown_ages(region: memoryview) -> dict[str, float]:
    """Returns the age of the cluster's objects that an earlier control process published as a metric.

    The result has seconds by resource. `region` is the shared memory of the earlier process.
    """
    return {sample.values[0]: sample.cells[0] for sample in samples(region) if sample.family.name == VIEW_AGE.name}


class ClusterViews:
    """All cluster views, and the tasks that keep them up to date."""

    def __init__(
        self, counters: Counters, log: logging.Logger, send: Send, now: Callable[[], float] = time.time, *, again: bool = False,
        ages: Mapping[str, float] = MappingProxyType({}), sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        flush: Callable[[], None] = lambda: None, worked: Callable[[float], None] = lambda _seconds: None,
    ) -> None:  # fmt: skip
        """`send` queues a change of a cluster view for the workers. Changes are sent in their order. `flush` sends the
        queued changes. `worked` is called with the seconds that changes have taken.

        `now` returns Unix seconds. If `again` is true, an earlier control process has sent the views to the workers.
        `ages` has the age of the objects that this process published as a metric, in seconds by resource.
        """
        self._counters, self._log, self._send, self._now, self._sleep = counters, log, send, now, sleep
        self._flush, self._worked = flush, worked
        self._workers_know, self._shown = again, ages
        self.by_number: dict[int, ClusterView] = {}
        self._by_watch: dict[bytes, int] = {}
        self._sources: dict[int, ChangeSource] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._writers: dict[int, SnapshotWriter] = {}
        self._writing: dict[int, asyncio.Task[None]] = {}

    async def prepare(self, wanted: Mapping[bytes, WatchedCluster]) -> list[int]:
        """Creates the sources that `wanted` needs and that do not exist yet, and reads their configuration.

        Returns the numbers of the new cluster views. If a configuration cannot be read, raises CorefileError and
        changes nothing.
        """
        made: list[tuple[bytes, ChangeSource]] = []
        for encoded, watched in wanted.items():
            if encoded not in self._by_watch:
                source = self._source(watched.options)
                try:
                    async with asyncio.timeout(CONFIGURE_LIMIT):
                        await source.configure()
                except (SvcdnsError, TimeoutError) as error:
                    reason = str(error) or f"its files cannot be read within {CONFIGURE_LIMIT:g} s"
                    raise CorefileError(watched.position, f"plugin/{watched.plugin}: {reason}") from error
                made.append((encoded, source))
                if self._shown:
                    # The API server may have failed while the earlier control process ran. So the objects are at least
                    # as old as that process has published.
                    source.assume(max(self._shown.get(QUALIFIED[kind], 0.0) for kind in source.kinds))
        new = []
        for encoded, source in made:
            number = number_of(encoded)
            self._by_watch[encoded] = number
            self._sources[number] = source
            self.by_number[number] = ClusterView(number, tuple(source.kinds), self._now)
            new.append(number)
            self._note_confirmation(self.by_number[number])
            await self._set_snapshot(number, encoded, wanted[encoded].snapshot)
            if not self._workers_know:
                await self._restore(number)
        self._shown = {}
        return new

    def _source(self, options: WatchOptions) -> ChangeSource:
        if options.manifests:
            from svcdns.sources.manifests import ManifestsSource

            return ManifestsSource(options, log=self._log)
        from svcdns.sources.api.source import ApiServerSource

        return ApiServerSource(options, log=self._log, observe=RestMetrics(self._counters))

    def start(self, numbers: Iterable[int]) -> None:
        """Starts the watches of the cluster views with these numbers."""
        for number in numbers:
            self._tasks[number] = asyncio.create_task(self._follow(number))
            self._write_snapshot(number)
        self._workers_know = False

    # -- snapshots

    async def _set_snapshot(self, number: int, encoded: bytes, options: SnapshotOptions | None) -> None:
        """Replaces the snapshot options of a cluster view.

        If they are None, the view's snapshot is no longer written.
        """
        task = self._writing.pop(number, None)
        if task is not None:
            await _ended(task)
        self._writers.pop(number, None)
        if options is not None:
            try:
                origin = await self._sources[number].origin()
            except SvcdnsError as error:
                self._log.error(LogLine("no snapshot is written", error=error))
                return
            self._writers[number] = SnapshotWriter(
                self.by_number[number], options, origin, encoded, lambda: self._now() - self.age(number), self._counters, self._log,
                now=self._now, sleep=self._sleep,
            )  # fmt: skip

    async def _restore(self, number: int) -> list[Difference]:
        """Reads the snapshot of a cluster view, adds its objects to the view, and returns the differences for the
        workers.
        """
        writer = self._writers.get(number)
        found = await writer.read() if writer is not None else None
        if writer is None or found is None:
            return []
        view = self.by_number[number]
        new = view.restore(found.objects, found.header.serials)
        self.assume(number, max(0.0, self._now() - found.confirmed))
        view.confirmed_at = -inf
        self._note_confirmation(view)
        writer.restored(found.confirmed)
        return new

    def _write_snapshot(self, number: int) -> None:
        writer = self._writers.get(number)
        if writer is not None:
            self._writing[number] = asyncio.create_task(self._follow_snapshot(number, writer, late=self._workers_know))

    async def _follow_snapshot(self, number: int, writer: SnapshotWriter, *, late: bool) -> None:
        view = self.by_number[number]
        if late:
            await self._sleep(SUCCESSOR_WAIT)
            if not view.is_listed:
                for difference in await self._restore(number):
                    self._send(view, difference)
        await writer.run()

    def whole(self, numbers: Iterable[int]) -> bool:
        """Returns True if all objects of these cluster views have been received, from lists or from snapshots."""
        return all(self.by_number[number].is_whole for number in numbers)

    def listed(self, numbers: Iterable[int]) -> bool:
        """Returns True if the sources of all of these cluster views have sent a complete list of each kind of
        object.
        """
        return all(self.by_number[number].is_listed for number in numbers)

    def unreachable(self) -> bool:
        """Returns True if a cluster view has no complete list and its API server does not respond."""
        pairs = ((view, self._sources[number]) for number, view in self.by_number.items())
        return any(source.is_unreachable and not view.is_listed for view, source in pairs)

    def unready(self) -> bool:
        """Returns True if a cluster view with the snapshot option `not_ready` has not been listed since the start.

        The page /ready must then report that the server is not ready.
        """
        return any(
            not writer.options.ready and not self.by_number[number].is_listed
            for number, writer in self._writers.items()
        )

    # -- ages

    def confirm(self) -> None:
        """Sends the workers the time at which the source last confirmed the objects of each cluster view.

        A time is sent only if it is at least CONFIRM_STEP seconds newer than the last one that was sent.
        """
        for view in self.by_number.values():
            if self._note_confirmation(view):
                self._send(view, Confirmed(view.confirmed_at))

    def _note_confirmation(self, view: ClusterView) -> bool:
        at = time.monotonic() - self.age(view.number)
        if at - view.confirmed_at < CONFIRM_STEP:
            return False
        view.confirmed_at = at
        return True

    def kinds(self, wanted: Iterable[bytes]) -> tuple[SourceKinds, ...]:
        """Returns the number, the watch options and the kinds of objects of each cluster view in `wanted`.

        `wanted` has encoded watch options. The result is sent to the workers.
        """
        numbers = [(self._by_watch[encoded], encoded) for encoded in wanted]
        return tuple(SourceKinds(number, encoded, self.by_number[number].kinds) for number, encoded in numbers)

    def ages(self, number: int) -> dict[Kind, float]:
        """Returns the seconds since the source last confirmed the objects of a cluster view, by kind of object.

        Before the first confirmation, the time counts from the creation of the source.
        """
        return self._sources[number].ages()

    def age(self, number: int) -> float:
        """Returns the greatest age of any kind of object in a cluster view, in seconds. The age is 0 for manifests."""
        return max(self.ages(number).values(), default=0.0)

    def assume(self, number: int, age: float) -> None:
        """Sets the age, in seconds, of the objects of a cluster view that come from a snapshot.

        Call it before the first list request, and only for views of an API server. The view's age metric begins at this
        age.
        """
        self._sources[number].assume(age)

    def show_ages(self) -> None:
        """Sets the metric of the objects' age by resource.

        If several views have a resource, the greatest age is used.
        """
        oldest: dict[str, float] = {}
        for number in self.by_number:
            for kind, age in self.ages(number).items():
                oldest[QUALIFIED[kind]] = max(age, oldest.get(QUALIFIED[kind], 0.0))
        self._counters.clear(VIEW_AGE)
        for resource, age in oldest.items():
            self._counters.set(self._counters.cell(VIEW_AGE, resource), age)

    async def keep_only(self, wanted: Mapping[bytes, WatchedCluster]) -> None:
        """Ends all cluster views that are not in `wanted`, and applies the snapshot options in `wanted` to the other
        views.
        """
        gone = [encoded for encoded in self._by_watch if encoded not in set(wanted)]
        for encoded in gone:
            number = self._by_watch.pop(encoded)
            await self._set_snapshot(number, encoded, None)
            await self._end(number)
            self.by_number.pop(number)
            self._sources.pop(number)
        for encoded, watched in wanted.items():
            number = self._by_watch[encoded]
            writer = self._writers.get(number)
            if watched.snapshot != (writer.options if writer is not None else None):
                await self._set_snapshot(number, encoded, watched.snapshot)
                self._write_snapshot(number)

    async def stop(self) -> None:
        """Ends all watches, and writes the snapshots for the last time."""
        for task in self._writing.values():
            await _ended(task)
        for number in list(self._tasks):
            await self._end(number)
        if self._writing:
            for writer in self._writers.values():
                await writer.finish()
        self._writing.clear()

    async def _end(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is not None:
            await _ended(task)

    async def _follow(self, number: int) -> None:
        await self._sources[number].follow(partial(self._apply, self.by_number[number]))

    def _apply(self, view: ClusterView, changes: Iterable[Change]) -> Awaitable[None] | None:
        """Applies changes for a time slice, and sends the differences to the workers.

        Returns None if all changes are applied, otherwise an awaitable that applies the rest.
        """
        began, rest, time_slice = perf_counter(), iter(changes), TimeSlice(APPLY_SLICE)
        try:
            for change in rest:
                self._apply_one(view, change)
                if time_slice.is_over:
                    return self._apply_rest(view, rest)
        finally:
            self._flush()
            self._worked(perf_counter() - began)
        return None

    async def _apply_rest(self, view: ClusterView, changes: Iterator[Change]) -> None:
        await asyncio.sleep(0)
        time_slice = TimeSlice(APPLY_SLICE)
        try:
            for change in changes:
                self._apply_one(view, change)
                await time_slice.pause()
        finally:
            self._flush()

    def _apply_one(self, view: ClusterView, change: Change) -> None:
        service = self._service_of(view, change)
        for difference in view.apply(change):
            self._send(view, difference)
        if service is not None and isinstance(change, Put | Gone):
            self._observe_duration(service, change.trigger_time)

    def _service_of(self, view: ClusterView, change: Change) -> Service | None:
        """Returns the Service of a changed EndpointSlice, for the metric of propagation delay.

        Returns None if the object is not an EndpointSlice or has no annotation with the time of the change. Call it
        before the change is applied: then a removed slice is still in the view.
        """
        if not isinstance(change, Put | Gone) or not change.trigger_time:
            return None
        slice_ = change.object if isinstance(change, Put) else view.object(_key(view, change))
        if not isinstance(slice_, EndpointSlice):
            return None
        found = view.object(ViewKey(view.number, Kind.SERVICE, slice_.namespace, slice_.service))
        return found if isinstance(found, Service) else None

    def _observe_duration(self, service: Service, trigger_time: float) -> None:
        cell = self._counters.cell(PROGRAMMING_DURATION, "headless_with_selector" if service.headless else "cluster_ip")
        self._counters.observe(PROGRAMMING_DURATION, cell, max(0.0, self._now() - trigger_time))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _key(view: ClusterView, gone: Gone) -> ViewKey:
    return ViewKey(view.number, gone.kind, gone.namespace, gone.name)
