"""The cluster views: which clusters are watched, by which source, and what has come of it.

A view is what one set of watch options shows; blocks with the same options share it, and a reload that does not change them does not
touch the watch. Every change goes into the view's store and, as a difference, to whoever is to be told. A view with a snapshot begins with
what that has, and its file is kept up to date."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import inf
from types import MappingProxyType
from typing import Any, Final

from svcdns.cluster.changes import Change, Complete, Confirmed, Gone, Kind, Put
from svcdns.cluster.objects import EndpointSlice, Service
from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions
from svcdns.control.cluster_view import Difference, Key, View
from svcdns.control.configuration import Watched
from svcdns.control.snapshot_writer import Keeper
from svcdns.corefile.errors import CorefileError
from svcdns.errors import SvcdnsError
from svcdns.feed.frames import SourceKinds
from svcdns.plugins.kubernetes.metrics import PROGRAMMING_DURATION, RECEIVED, REST_DURATION, REST_REQUESTS, VIEW_AGE
from svcdns.sources.api.resources import QUALIFIED
from svcdns.telemetry.counters import Counters, samples

Told = Callable[[View, Difference], None]

TOLD: Final = 1.0
"""Seconds by which a view is to be younger before workers are told."""
SURVIVED: Final = 10.0
"""Seconds after which a control that follows another takes a snapshot in: the workers know more than it says, and a list comes sooner."""


class RestMetrics:
    """Counts requests to API servers."""

    def __init__(self, counters: Counters) -> None:
        """Into control's own region."""
        self._counters = counters

    def request(self, verb: str, host: str, code: str, method: str, seconds: float | None) -> None:
        """One request; `seconds` until the head of the response, None where it was never the server's to answer soon (a watch)."""
        self._counters.count(REST_REQUESTS, code, method, host)
        if seconds is not None:
            self._counters.observe(REST_DURATION, self._counters.cell(REST_DURATION, verb, host), seconds)

    def received(self, resource: str, octets: int) -> None:
        """Octets of a body."""
        self._counters.count(RECEIVED, resource, amount=octets)


def number_of(watch: bytes) -> int:
    """The number of the view with these watch options, encoded: the same in every life of control, as workers know their indexes by it."""
    return int.from_bytes(hashlib.sha256(watch).digest()[:6], "big")


def shown_ages(region: memoryview) -> dict[str, float]:
    """The ages in seconds, by resource, that the control with this region of the shared mapping has shown last."""
    return {sample.values[0]: sample.cells[0] for sample in samples(region) if sample.family.name == VIEW_AGE.name}


class Views:
    """All views and the tasks that keep them up to date."""

    def __init__(
        self, counters: Counters, log: logging.Logger, tell: Told, now: Callable[[], float] = time.time, *, again: bool = False,
        ages: Mapping[str, float] = MappingProxyType({}), sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        """`tell` is called for every difference, in order; `now` is Unix time in seconds; with `again` workers know the views already.

        `ages` is what a control before this one has shown, in seconds by resource.
        """
        self._counters, self._log, self._tell, self._now, self._sleep = counters, log, tell, now, sleep
        self._workers_know, self._shown = again, ages
        self.by_number: dict[int, View] = {}
        self._by_watch: dict[bytes, int] = {}
        self._sources: dict[int, Any] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._keepers: dict[int, Keeper] = {}
        self._keeping: dict[int, asyncio.Task[None]] = {}

    async def prepare(self, wanted: Mapping[bytes, Watched]) -> list[int]:
        """Makes the sources that are missing and checks that they can work; their numbers. A CorefileError changes nothing."""
        made: list[tuple[bytes, Any]] = []
        for encoded, (options, position, _) in wanted.items():
            if encoded not in self._by_watch:
                source = self._source(options)
                try:
                    await source.configure()
                except SvcdnsError as error:
                    raise CorefileError(position, f"plugin/kubernetes: {error}") from error
                made.append((encoded, source))
                if self._shown and not options.manifests:
                    # A control before this one may have seen an outage begin; what the workers know has not become younger since.
                    source.assume(max(self._shown.get(QUALIFIED[kind], 0.0) for kind in source.kinds))
        new = []
        for encoded, source in made:
            number = number_of(encoded)
            self._by_watch[encoded] = number
            self._sources[number] = source
            self.by_number[number] = View(number, tuple(source.kinds), self._now)
            new.append(number)
            self._note_confirmation(self.by_number[number])
            await self._open_snapshot(number, encoded, wanted[encoded].snapshot)
            if not self._workers_know:
                await self._restore(number)
        self._shown = {}
        return new

    def _source(self, options: WatchOptions) -> Any:
        if options.manifests:
            from svcdns.sources.manifests import ManifestsSource

            return ManifestsSource(options, log=self._log)
        from svcdns.sources.api.source import ApiServerSource

        return ApiServerSource(options, log=self._log, observe=RestMetrics(self._counters))

    def start(self, numbers: Iterable[int]) -> None:
        """Starts to watch."""
        for number in numbers:
            self._tasks[number] = asyncio.create_task(self._follow(number))
            self._keep_snapshot(number)
        self._workers_know = False

    # -- snapshots

    async def _open_snapshot(self, number: int, encoded: bytes, options: SnapshotOptions | None) -> None:
        """From now on the snapshot of a view is the one of these options."""
        task = self._keeping.pop(number, None)
        if task is not None:
            await _ended(task)
        self._keepers.pop(number, None)
        if options is not None:
            try:
                origin = await self._sources[number].origin()
            except SvcdnsError as error:
                self._log.error("no snapshot is kept: %s", error)
                return
            self._keepers[number] = Keeper(
                self.by_number[number], options, origin, encoded, lambda: self._now() - self.age(number), self._counters, self._log,
                now=self._now, sleep=self._sleep,
            )  # fmt: skip

    async def _restore(self, number: int) -> list[Key | Complete]:
        """Takes the snapshot of a view in, if there is one; what is new by that."""
        keeper = self._keepers.get(number)
        found = await keeper.read() if keeper is not None else None
        if keeper is None or found is None:
            return []
        view = self.by_number[number]
        new = view.restore(found.objects, found.header.serials)
        self.assume(number, max(0.0, self._now() - found.confirmed))
        view.confirmed_at = -inf
        self._note_confirmation(view)
        keeper.restored(found.confirmed)
        return new

    def _keep_snapshot(self, number: int) -> None:
        keeper = self._keepers.get(number)
        if keeper is not None:
            self._keeping[number] = asyncio.create_task(self._keep_file(number, keeper, late=self._workers_know))

    async def _keep_file(self, number: int, keeper: Keeper, *, late: bool) -> None:
        view = self.by_number[number]
        if late:
            await self._sleep(SURVIVED)
            if not view.is_listed:
                for difference in await self._restore(number):
                    self._tell(view, difference)
                self._tell(view, view.serials)
        await keeper.run()

    def whole(self, numbers: Iterable[int]) -> bool:
        """Whether all of these views are known whole already."""
        return all(self.by_number[number].is_whole for number in numbers)

    def listed(self, numbers: Iterable[int]) -> bool:
        """Whether the sources of all of these views have listed every kind."""
        return all(self.by_number[number].is_listed for number in numbers)

    def unreachable(self) -> bool:
        """Whether an API server that has not been listed yet gives no answer: there is nothing to wait for."""
        pairs = ((view, self._sources[number]) for number, view in self.by_number.items())
        return any(source.is_unreachable and not view.is_listed for view, source in pairs)

    def unready(self) -> bool:
        """Whether a view is served from a snapshot with which the server is not to count as ready."""
        return any(not keeper.options.ready and not self.by_number[number].is_listed for number, keeper in self._keepers.items())

    # -- ages

    def confirm(self) -> None:
        """Tells workers of views that their source has confirmed."""
        for view in self.by_number.values():
            if self._note_confirmation(view):
                self._tell(view, Confirmed(view.confirmed_at))

    def _note_confirmation(self, view: View) -> bool:
        at = time.monotonic() - self.age(view.number)
        if at - view.confirmed_at < TOLD:
            return False
        view.confirmed_at = at
        return True

    def kinds(self, wanted: Iterable[bytes]) -> tuple[SourceKinds, ...]:
        """What workers have to know of the views with these watch options."""
        numbers = [(self._by_watch[encoded], encoded) for encoded in wanted]
        return tuple(SourceKinds(number, encoded, self.by_number[number].kinds) for number, encoded in numbers)

    def ages(self, number: int) -> dict[Kind, float]:
        """Seconds since what a view shows of each of its kinds was confirmed by its source; finite always."""
        ages: dict[Kind, float] = self._sources[number].ages()
        return ages

    def age(self, number: int) -> float:
        """Seconds since the oldest kind of a view was confirmed; 0 for manifests."""
        return max(self.ages(number).values(), default=0.0)

    def assume(self, number: int, age: float) -> None:
        """What a view knows before its source's first lists is `age` seconds old. Only for views of an API server."""
        self._sources[number].assume(age)

    def show_ages(self) -> None:
        """Puts the ages on the metrics page."""
        oldest: dict[str, float] = {}
        for number in self.by_number:
            for kind, age in self.ages(number).items():
                oldest[QUALIFIED[kind]] = max(age, oldest.get(QUALIFIED[kind], 0.0))
        self._counters.clear(VIEW_AGE)
        for resource, age in oldest.items():
            self._counters.set(self._counters.cell(VIEW_AGE, resource), age)

    async def keep(self, wanted: Mapping[bytes, Watched]) -> None:
        """Ends the views that nobody wants any more; those that stay keep their snapshots where it is wanted now."""
        gone = [encoded for encoded in self._by_watch if encoded not in set(wanted)]
        for encoded in gone:
            number = self._by_watch.pop(encoded)
            await self._open_snapshot(number, encoded, None)
            await self._end(number)
            self.by_number.pop(number)
            self._sources.pop(number)
        for encoded, watched in wanted.items():
            number = self._by_watch[encoded]
            keeper = self._keepers.get(number)
            if watched.snapshot != (keeper.options if keeper is not None else None):
                await self._open_snapshot(number, encoded, watched.snapshot)
                self._keep_snapshot(number)

    async def stop(self) -> None:
        """Ends all watches; what is known stays, and is in the snapshots."""
        for task in self._keeping.values():
            await _ended(task)
        for number in list(self._tasks):
            await self._end(number)
        if self._keeping:
            for keeper in self._keepers.values():
                await keeper.finish()
        self._keeping.clear()

    async def _end(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is not None:
            await _ended(task)

    async def _follow(self, number: int) -> None:
        view = self.by_number[number]
        async for change in self._sources[number].changes():
            service = self._service_of(view, change)
            serials = view.serials
            for difference in view.take(change):
                self._tell(view, difference)
            if view.serials is not serials:
                self._tell(view, view.serials)
            if service is not None:
                self._programmed(service, change)

    def _service_of(self, view: View, change: Change) -> Service | None:
        """The Service of a slice whose change says when it was triggered, looked up when the change is taken."""
        if not isinstance(change, Put | Gone) or not change.trigger_time:
            return None
        slice_ = change.object if isinstance(change, Put) else view.object(_key(view, change))
        if not isinstance(slice_, EndpointSlice):
            return None
        found = view.object(Key(view.number, Kind.SERVICE, slice_.namespace, slice_.service))
        return found if isinstance(found, Service) else None

    def _programmed(self, service: Service, change: Any) -> None:
        cell = self._counters.cell(PROGRAMMING_DURATION, "headless_with_selector" if service.headless else "cluster_ip")
        self._counters.observe(PROGRAMMING_DURATION, cell, max(0.0, self._now() - change.trigger_time))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _key(view: View, gone: Gone) -> Key:
    return Key(view.number, gone.kind, gone.namespace, gone.name)
