"""Turns the estimates of traffic on and off, as the Corefile says (plugin *traffic*).

Without *traffic*, nothing is imported and no memory is mapped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import Pod
from svcdns.cluster.watch_options import encode_watch
from svcdns.control.cluster_view import ClusterView, Difference, ViewKey
from svcdns.control.cluster_views import ClusterViews, RestMetrics
from svcdns.control.configuration import Setup
from svcdns.eventloop.time_slice import TimeSlice
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import plugin_logger

if TYPE_CHECKING:
    from svcdns.control.client_names import ClientNames
    from svcdns.control.traffic import Traffic, TrafficReport


class TrafficSamples:
    """The estimates of traffic, if the Corefile has the plugin *traffic*."""

    def __init__(self, counters: Counters, views: ClusterViews, rings: Callable[[], list[memoryview]]) -> None:
        """`rings` returns the rings of the workers in the shared memory."""
        self._counters, self._views, self._rings = counters, views, rings
        self._log: logging.Logger = plugin_logger("traffic")
        self._traffic: Traffic | None = None
        self._names: ClientNames | None = None
        self._following: dict[bytes, asyncio.Task[None]] = {}
        """The watches of Pods for this purpose only, by encoded watch options."""
        self.reads_views = False
        """True if Pods come from the cluster views: then call `changed` for each difference of a view."""

    async def use(self, setup: Setup) -> None:
        """Applies the Corefile of `setup`. Call it when the cluster views of the Corefile exist."""
        if not any(one.records_traffic for one in setup.settings):
            await self.stop()
            self._traffic = self._names = None
            self.reads_views = False
            return
        from svcdns.control.client_names import ClientNames
        from svcdns.control.traffic import Traffic
        from svcdns.telemetry.query_samples import Ring
        from svcdns.wire import names

        if self._traffic is None or self._names is None:
            self._names = ClientNames()
            self._traffic = Traffic(self._counters, lambda: map(Ring, self._rings()), self._names, self._exists)
        zones = {names.from_text(zone).lower() for one in setup.settings for zone in one.cluster_zones}
        self._traffic.zones = tuple(sorted(zones, key=len, reverse=True))
        with_pods = [view for view in self._views.by_number.values() if Kind.POD in view.kinds]
        self.reads_views = bool(with_pods)
        for view in with_pods:
            await self._load(view)
        wanted = (
            {}
            if with_pods or not any(one.names_pods for one in setup.settings)
            else {encode_watch(one.watch): one.watch for one in setup.settings if one.watch is not None}
        )
        await self._stop_following(wanted)
        from svcdns.control.client_names import follow_pods

        for encoded, options in wanted.items():
            if encoded not in self._following:
                follow = follow_pods(self._names, options, self._log, RestMetrics(self._counters))
                self._following[encoded] = asyncio.create_task(follow)

    async def _load(self, view: ClusterView) -> None:
        slice_ = TimeSlice()
        for key in tuple(view.keys(Kind.POD)):
            self.changed(view, key)
            await slice_.pause()

    def changed(self, view: ClusterView, difference: Difference) -> None:
        """Notes a change of a Pod in a cluster view. Ignores other differences."""
        from svcdns.control.client_names import PodName

        if self._names is not None and isinstance(difference, ViewKey) and difference.kind == Kind.POD:
            pod = view.object(difference)
            if isinstance(pod, Pod):
                self._names.put(pod)
            else:
                self._names.remove(PodName(difference.namespace, difference.name))

    def _exists(self, namespace: str, service: str) -> bool:
        """Returns True if a cluster view has the Service, or with an empty `service`, the namespace."""
        kind, key = (Kind.SERVICE, (namespace, service)) if service else (Kind.NAMESPACE, ("", namespace))
        return any(
            view.encoded(ViewKey(view.number, kind, *key)) is not None for view in self._views.by_number.values()
        )

    def count(self) -> None:
        """Adds new samples to the metrics. Called once a second."""
        if self._traffic is not None:
            self._traffic.count()

    async def report(self, top: int = 20) -> TrafficReport | None:
        """Returns the estimates for the last minute. Each list has at most `top` items.

        Returns None if no block has *traffic*.
        """
        return None if self._traffic is None else await self._traffic.report(top)

    async def stop(self) -> None:
        """Ends the watches of Pods."""
        await self._stop_following({})

    async def _stop_following(self, wanted: Mapping[bytes, object]) -> None:
        for encoded in [encoded for encoded in self._following if encoded not in wanted]:
            task = self._following.pop(encoded)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
