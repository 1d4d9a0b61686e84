"""The connections of the control process to the workers.

The module keeps everything that a new worker needs: the data of plugins, the configuration of the plugin chains, and
the cluster views. During a reload, it also keeps the new configuration. The supervisor starts and ends the workers.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Final

from svcdns.cluster.changes import Complete, Confirmed, Serials
from svcdns.control.cluster_view import ClusterView, Difference, ViewKey
from svcdns.control.feed_queue import FeedQueue
from svcdns.control.plugin_data import DataKey, PluginData
from svcdns.errors import SvcdnsError
from svcdns.feed.frames import (
    Allow,
    Call,
    Changed,
    Configure,
    Configured,
    Data,
    Returned,
    Swap,
    ToControl,
    ToWorker,
    frame,
)
from svcdns.process.shared_memory import ENCRYPTED_SLOT, SIDES, State, heartbeat, state, worker_region

BUILD_TIMEOUT: Final = 10.0
"""Seconds in which workers must have built their chains."""
HEARTBEAT_TIMEOUT: Final = 3.0
"""Seconds without a heartbeat after which a worker counts as unhealthy."""


class BuildError(SvcdnsError):
    """Raised if a worker cannot build the plugin chains, or has not built them within BUILD_TIMEOUT seconds."""


class CallError(SvcdnsError):
    """Raised if a worker cannot run a function, ends before it has returned, or takes too long."""


class Workers:
    """All workers of the server. `count` is the number of workers that the Corefile configures."""

    def __init__(self, views: Mapping[int, ClusterView], regions: Sequence[memoryview], epoch: int) -> None:
        """`views` has the cluster views by number. `regions` are all regions of the shared memory.

        `epoch` is the number of this control process.
        """
        self.count = 1
        self.encrypted = False
        """True if the Corefile has an encrypted transport, for which there is one more worker."""
        self._views, self._regions, self._epoch = views, regions, epoch
        self._feeds: dict[int, FeedQueue] = {}
        """The connection to each worker, by the worker's region.

        A worker and its replacement have the same slot and different regions.
        """
        self._slots: dict[int, int] = {}
        """Each worker's slot, by the worker's region."""
        self._share = 1.0
        self._data: PluginData = {}
        self._published: dict[DataKey, bytes] = {}
        """Data that a worker has sent for all workers."""
        self._serving: Configure | None = None
        self._pending: Configure | None = None
        self._new_views: tuple[int, ...] = ()
        self._built: dict[int, str] = {}
        """The errors of the workers that tried to build the pending chains, by region; empty if a worker succeeded."""
        self._takes_calls: set[int] = set()
        """The regions of the workers that accept calls. Workers of earlier versions do not."""
        self._calls: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        """By call number: the worker's region and the future of the result, for calls that have not returned."""
        self._last_call = 0
        self._changed = asyncio.Event()
        self._had_heartbeat = False

    # -- to the workers

    def joined(self, slot: int, region: int, fd: int) -> None:
        """Connects a worker, and sends it the whole configuration and all cluster views.

        `fd` is control's end of the connection. The worker may be new, or may come from another control process.
        """
        old = self._feeds.get(region)
        if old is not None:
            old.close()
        self._slots[region] = slot
        feed = self._feeds[region] = FeedQueue(region, socket.socket(fileno=fd), self._views, self._received)
        feed.begin(self._epoch, self._share)
        self._put_data(feed)
        if self._serving is not None:
            feed.put(self._serving)
            feed.put(Swap(self._serving.generation))
            for source in self._serving.sources:
                feed.whole_view(self._views[source.number])
        if self._pending is not None:
            if self._serving is not None:
                self._put_data(feed)  # the worker has dropped the certificates that only the new configuration needs
            self._put_pending(feed, self._pending)
        self._changed.set()

    def begin(self, configure: Configure, data: PluginData) -> None:
        """Sends the plugins' data to the workers, and requests that they build their first plugin chains."""
        self._data = data
        for feed in self._feeds.values():
            self._put_data(feed)
        self.build(configure, [source.number for source in configure.sources])

    def build(self, configure: Configure, new_views: Sequence[int]) -> None:
        """Requests that the workers build the plugin chains of `configure`, while they serve with the present ones.

        `new_views` has the numbers of the cluster views that no worker has yet. These views are sent as well.
        """
        self._pending, self._new_views = configure, tuple(new_views)
        self._built.clear()
        for feed in self._feeds.values():
            self._put_pending(feed, configure)

    def _put_data(self, feed: FeedQueue) -> None:
        for (plugin, key), payload in (*self._data.items(), *self._published.items()):
            feed.put(Data(plugin, key, payload))

    def _put_pending(self, feed: FeedQueue, configure: Configure) -> None:
        feed.put(configure)
        for number in self._new_views:
            feed.whole_view(self._views[number])

    async def built(self) -> None:
        """Waits until every worker has built the plugin chains that `build` requested.

        Raises BuildError after BUILD_TIMEOUT seconds, or if a worker cannot build the chains.
        """
        deadline = time.monotonic() + BUILD_TIMEOUT
        while len(set(self._slots.values())) < self.count + self.encrypted or not all(
            region in self._built for region in self._feeds
        ):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise BuildError("gave up waiting for the workers to build their chains") from None
        errors = [error for error in self._built.values() if error]
        if errors:
            raise BuildError(errors[0])

    def swap(self) -> None:
        """Requests that the workers serve with the new plugin chains. Call it after `built`."""
        assert self._pending is not None
        self._serving, self._pending = self._pending, None
        self._broadcast(Swap(self._serving.generation))

    def abandon(self) -> None:
        """Discards the plugin chains of a failed reload, so that a worker that starts later does not build them."""
        self._pending = None

    def update(self, data: PluginData) -> None:
        """Sends the workers the changed data of plugins.

        If an item is too large, raises FrameTooLargeError and changes nothing.
        """
        frames = [frame(Data(*key, payload)) for key, payload in data.items() if self._data.get(key) != payload]
        self._data = data
        for octets in frames:
            self._broadcast_frame(octets)

    def plugin_data(self) -> PluginData:
        """Returns the plugin data in the workers: the data from control, and the data that workers have published."""
        return {**self._data, **self._published}

    def allow(self, share: float) -> None:
        """Informs the workers how large answer tables and caches may be, relative to their usual size."""
        self._share = share
        self._broadcast(Allow(share))

    def send_difference(self, view: ClusterView, difference: Difference) -> None:
        """Queues a change of a cluster view for all workers: a changed object, the end of a list, or a changed
        property.
        """
        for feed in self._feeds.values():
            match difference:
                case ViewKey():
                    feed.changed(difference)
                case Complete():
                    feed.put(Changed(view.number, difference))
                case Confirmed():
                    feed.confirmed(view)
                case Serials():
                    feed.serials(view)

    def flush(self) -> None:
        """Sends the queued changes now, as far as the workers' sockets accept them."""
        for feed in tuple(self._feeds.values()):
            feed.flush()

    def callable_workers(self) -> dict[str, int]:
        """Returns the regions of the workers that accept calls, by the names of the workers, such as `worker 0`."""
        return {f"worker {slot}": region for region, slot in sorted(self._slots.items()) if region in self._takes_calls}

    async def call(self, region: int, function: str, argument: bytes, timeout: float) -> bytes:
        """Runs a function of `svcdns.worker.calls` in the worker of a region, and returns the result.

        Raises CallError, also after `timeout` seconds.
        """
        feed = self._feeds.get(region)
        if feed is None:
            raise CallError("the worker has ended")
        self._last_call += 1
        number, returned = self._last_call, asyncio.get_running_loop().create_future()
        self._calls[number] = region, returned
        feed.put(Call(number, function, argument))
        try:
            return await asyncio.wait_for(returned, timeout)
        except TimeoutError:
            raise CallError(f"the worker has not replied within {timeout:g} s") from None
        finally:
            del self._calls[number]

    def _end_call(self, returned: asyncio.Future[bytes], result: bytes, error: str) -> None:
        if returned.done():
            return
        if error:
            returned.set_exception(CallError(error))
        else:
            returned.set_result(result)

    def _broadcast(self, content: ToWorker) -> None:
        self._broadcast_frame(frame(content))

    def _broadcast_frame(self, octets: bytes) -> None:
        for feed in self._feeds.values():
            feed.put_frame(octets)

    # -- from the workers

    def _received(self, region: int, content: ToControl | None) -> None:
        match content:
            case None:
                del self._feeds[region], self._slots[region]
                self._built.pop(region, None)
                self._takes_calls.discard(region)
                for of_region, returned in self._calls.values():
                    if of_region == region:
                        self._end_call(returned, b"", "the worker has ended")
                self._changed.set()
            case Returned():
                if content.number in self._calls:
                    self._end_call(self._calls[content.number][1], content.result, content.error)
            case Configured():
                if content.takes_calls:
                    self._takes_calls.add(region)
                if self._pending is not None and content.generation == self._pending.generation:
                    self._built[region] = content.error
                    self._changed.set()
            case Data():
                key = DataKey(content.plugin, content.key)
                if self._published.get(key) != content.payload:
                    self._published[key] = content.payload
                    self._broadcast(content)

    def states(self) -> list[State]:
        """Returns one state for each worker number (slot).

        During a replacement, a slot has two workers. The slot's state is SERVING if one of them serves, otherwise that
        of the new one.
        """
        return [self._state(slot) for slot in self._configured_slots()]

    def named_states(self) -> dict[str, State]:
        """Returns the state of each worker by the worker's name, such as `worker 0`."""
        return {f"worker {slot}": self._state(slot) for slot in self._configured_slots()}

    def _configured_slots(self) -> list[int]:
        return [*range(self.count), *([ENCRYPTED_SLOT] if self.encrypted else [])]

    def _state(self, slot: int) -> State:
        states = [state(region) for region in self._regions_of(slot)]
        if State.SERVING in states:
            return State.SERVING
        return next((one for one in states if one not in (State.STARTING, State.DRAINING, State.ENDED)), State.STARTING)

    def _regions_of(self, slot: int) -> list[memoryview]:
        return [self._regions[worker_region(slot, side)] for side in range(SIDES)]

    def healthy(self) -> bool:
        """Returns True if any worker has a recent heartbeat, or if no worker has sent a heartbeat yet."""
        now = time.monotonic()
        heartbeats = [heartbeat(region) for slot in self._configured_slots() for region in self._regions_of(slot)]
        self._had_heartbeat = self._had_heartbeat or any(heartbeats)
        return not self._had_heartbeat or any(now - at <= HEARTBEAT_TIMEOUT for at in heartbeats)
