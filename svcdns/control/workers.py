"""The workers as control sees them: a feed to each, the chains that each has built, and the state that each shows.

What a worker that joins has to be told is kept here: data of plugins, the chains that serve and those that are being built, and the
views that these use.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Final

from svcdns.cluster.changes import Complete, Confirmed, Serials
from svcdns.control.cluster_view import Difference, Key, View
from svcdns.control.feed_queue import Feed
from svcdns.errors import SvcdnsError
from svcdns.feed.frames import Allow, Changed, Configure, Configured, Data, Swap, ToControl, ToWorker, frame
from svcdns.process.shared_memory import SIDES, State, heartbeat, state, worker_region

BUILD_PATIENCE: Final = 10.0
"""Seconds that workers may take to build chains."""
SILENCE: Final = 3.0


Contents = Mapping[tuple[str, str], bytes]
"""What plugins' files hold, by plugin and key."""


class BuildError(SvcdnsError):
    """The chains cannot be built, or not in time."""


class Workers:
    """All workers of the server. `count` is how many there are to be."""

    def __init__(self, views: Mapping[int, View], regions: Sequence[memoryview], epoch: int) -> None:
        """`regions` of the shared mapping."""
        self.count = 1
        self._views, self._regions, self._epoch = views, regions, epoch
        self._feeds: dict[int, Feed] = {}
        """By the worker's region: while a worker is replaced, its slot has two."""
        self._slots: dict[int, int] = {}
        """Slot by region."""
        self._share = 1.0
        self._data: Contents = {}
        self._published: dict[tuple[str, str], bytes] = {}
        """What workers have found out, for all of them."""
        self._live: Configure | None = None
        self._pending: Configure | None = None
        self._new_views: tuple[int, ...] = ()
        self._built: dict[int, str] = {}
        self._changed = asyncio.Event()
        self._beaten = False

    # -- what they are told

    def joined(self, slot: int, region: int, fd: int) -> None:
        """A worker has started, or comes from a control before this one; `fd` is control's end of its feed."""
        old = self._feeds.get(region)
        if old is not None:
            old.close()
        self._slots[region] = slot
        feed = self._feeds[region] = Feed(region, socket.socket(fileno=fd), self._views, self._heard)
        feed.begin(self._epoch, self._share)
        self._put_data(feed)
        if self._live is not None:
            feed.put(self._live)
            feed.put(Swap(self._live.generation))
            for source in self._live.sources:
                feed.everything(self._views[source.number])
        if self._pending is not None:
            self._put_pending(feed, self._pending)
        self._changed.set()

    def begin(self, order: Configure, data: Contents) -> None:
        """The first chains, which workers are to build."""
        self._data = data
        for feed in self._feeds.values():
            self._put_data(feed)
        self.build(order, [source.number for source in order.sources])

    def build(self, order: Configure, new_views: Sequence[int]) -> None:
        """Further chains, to be built beside those that serve; and what is in the views that nobody knows yet."""
        self._pending, self._new_views = order, tuple(new_views)
        self._built.clear()
        for feed in self._feeds.values():
            self._put_pending(feed, order)

    def _put_data(self, feed: Feed) -> None:
        for (plugin, key), payload in (*self._data.items(), *self._published.items()):
            feed.put(Data(plugin, key, payload))

    def _put_pending(self, feed: Feed, order: Configure) -> None:
        feed.put(order)
        for number in self._new_views:
            feed.everything(self._views[number])

    async def built(self) -> None:
        """Waits until every worker has built the chains that it was told last. Raises BuildError."""
        deadline = time.monotonic() + BUILD_PATIENCE
        while len(set(self._slots.values())) < self.count or not all(region in self._built for region in self._feeds):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise BuildError("gave up waiting for the workers to build their chains") from None
        errors = [error for error in self._built.values() if error]
        if errors:
            raise BuildError(errors[0])

    def swap(self) -> None:
        """The chains that were told last serve from now on."""
        assert self._pending is not None
        self._live, self._pending = self._pending, None
        self._broadcast(Swap(self._live.generation))

    def abandon(self) -> None:
        """The chains that were told last are not to serve: whoever joins is not told of them."""
        self._pending = None

    def update(self, data: Contents) -> None:
        """What plugins' files hold now. Raises FrameTooLargeError, and then nothing has changed."""
        new = [Data(plugin, key, payload) for (plugin, key), payload in data.items() if self._data.get((plugin, key)) != payload]
        frames = [frame(content) for content in new]
        self._data = data
        for octets in frames:
            self._send(octets)

    def allow(self, share: float) -> None:
        """The part of their usual size that answer tables and caches may have."""
        self._share = share
        self._broadcast(Allow(share))

    def tell(self, view: View, difference: Difference) -> None:
        """A difference in the cluster."""
        for feed in self._feeds.values():
            match difference:
                case Key():
                    feed.tell(difference)
                case Complete():
                    feed.put(Changed(view.number, difference))
                case Confirmed():
                    feed.confirmed(view)
                case Serials():
                    feed.serials(view)

    def _broadcast(self, content: ToWorker) -> None:
        self._send(frame(content))

    def _send(self, octets: bytes) -> None:
        for feed in self._feeds.values():
            feed.put_frame(octets)

    # -- what they say and show

    def _heard(self, region: int, content: ToControl | None) -> None:
        match content:
            case None:
                del self._feeds[region], self._slots[region]
                self._built.pop(region, None)
                self._changed.set()
            case Configured():
                if self._pending is not None and content.generation == self._pending.generation:
                    self._built[region] = content.error
                    self._changed.set()
            case Data():
                key = (content.plugin, content.key)
                if self._published.get(key) != content.payload:
                    self._published[key] = content.payload
                    self._broadcast(content)

    def states(self) -> list[State]:
        """The state of each slot, in order: that of the worker that serves, else of one that is about to."""
        return [self._state(slot) for slot in range(self.count)]

    def _state(self, slot: int) -> State:
        states = [state(region) for region in self._of(slot)]
        if State.SERVING in states:
            return State.SERVING
        return next((one for one in states if one not in (State.STARTING, State.DRAINING, State.ENDED)), State.STARTING)

    def _of(self, slot: int) -> list[memoryview]:
        return [self._regions[worker_region(slot, side)] for side in range(SIDES)]

    def alive(self) -> bool:
        """Whether any of them beats, or none has begun to yet."""
        now = time.monotonic()
        beats = [heartbeat(region) for slot in range(self.count) for region in self._of(slot)]
        self._beaten = self._beaten or any(beats)
        return not self._beaten or any(now - beat <= SILENCE for beat in beats)
