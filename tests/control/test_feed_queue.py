"""The queue of frames to one worker: order, latest values, and bounded memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from svcdns.cluster.changes import Begin, Complete, Confirmed, Gone, Kind, Put, Serials
from svcdns.cluster.objects import Service
from svcdns.control import feed_queue
from svcdns.control.cluster_view import ClusterView, ViewKey
from svcdns.control.feed_queue import CHUNK, FeedQueue
from svcdns.feed.frames import Changed, Configured, Data, Epoch, FrameReader, ToControl, ToWorker, frame


def service(number: int, ip: str = "10.0.0.1") -> Service:
    """Returns the Service with this number."""
    return Service("d", f"s{number}", (ip,))


def key(number: int) -> ViewKey:
    """Returns the key of the Service with this number, in view 1."""
    return ViewKey(1, Kind.SERVICE, "d", f"s{number}")


class World:
    """A feed queue with one view, and the worker's end of the connection."""

    def __init__(self) -> None:
        self.view = ClusterView(1, (Kind.SERVICE,), lambda: 0.0)
        self.from_worker: list[tuple[int, ToControl | None]] = []
        ours, self.worker = socket.socketpair()
        self.worker.setblocking(False)
        self.feed = FeedQueue(3, ours, {1: self.view}, lambda slot, content: self.from_worker.append((slot, content)))
        self._reader = FrameReader[ToWorker](ToWorker)

    def put(self, *services: Service) -> None:
        """Changes objects, and queues the changes."""
        for one in services:
            for difference in self.view.apply(Put(one)):
                assert isinstance(difference, ViewKey)
                self.feed.changed(difference)

    async def received(self, count: int) -> list[ToWorker]:
        """Waits for `count` frames, and returns them."""
        loop = asyncio.get_running_loop()
        out: list[ToWorker] = []
        async with asyncio.timeout(10):
            while len(out) < count:
                self._reader.feed(await loop.sock_recv(self.worker, 1 << 20))
                out += self._reader.frames()
        assert len(out) == count
        return out


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.feed.close()
    made.worker.close()


async def test_frames_are_sent_in_order(world: World) -> None:
    world.feed.begin(9)
    world.put(service(1))
    world.feed.put(Data("file", "z", b"x"))
    world.feed.changed(key(5))
    world.feed.serials(world.view)
    assert await world.received(5) == [
        Epoch(9),
        Changed(1, Put(service(1))),
        Data("file", "z", b"x"),
        Changed(1, Gone(Kind.SERVICE, "d", "s5")),
        Changed(1, Serials()),
    ]


async def test_the_latest_value_wins(world: World) -> None:
    """If a worker does not read, the queue has one entry for each object."""
    for number in range(1000):
        world.put(service(1, f"10.0.{number >> 8}.{number & 255}"))
    assert len(world.feed._queue) == 1
    assert await world.received(1) == [Changed(1, Put(service(1, "10.0.3.231")))]


async def test_a_slow_worker_gets_everything_in_the_end(world: World) -> None:
    for number in range(20_000):
        world.put(service(number))
    await asyncio.sleep(0)
    world.put(service(19_999, "10.9.9.9"))
    out = await world.received(20_000)
    assert out[-1] == Changed(1, Put(service(19_999, "10.9.9.9")))
    assert world.feed._queue == {}


async def test_a_whole_view_is_a_list_of_each_kind(world: World) -> None:
    """The queue has the last confirmation, a list of each kind, and Complete for each complete list."""
    world.view.apply(Put(service(1)))
    world.view.confirmed_at = 5.5
    world.feed.whole_view(world.view)
    first, *rest = await world.received(4)
    assert first == Changed(1, Confirmed(5.5))
    assert rest == [Changed(1, Begin(Kind.SERVICE)), Changed(1, Put(service(1))), Changed(1, Serials())]
    world.view.apply(Begin(Kind.SERVICE))
    world.view.apply(Put(service(1)))
    world.view.apply(Complete(Kind.SERVICE))
    world.feed.whole_view(world.view)
    kinds = [type(one.change) for one in await world.received(5) if isinstance(one, Changed)]
    assert kinds == [Confirmed, Begin, Put, Complete, Serials]


async def test_only_the_latest_confirmation_is_sent(world: World) -> None:
    for world.view.confirmed_at in (1.0, 2.0, 3.0):
        world.feed.confirmed(world.view)
    assert await world.received(1) == [Changed(1, Confirmed(3.0))]


async def test_a_change_is_sent_before_the_rest_of_the_first_list(world: World) -> None:
    for number in range(20_000):
        world.view.apply(Put(service(number)))
    world.feed.whole_view(world.view)
    await asyncio.sleep(0)
    queued = len(world.feed._queue)
    assert 1000 < queued < 20_000, "the socket is full"
    world.put(service(19_999, "10.9.9.9"), service(20_000))
    for difference in world.view.apply(Gone(Kind.SERVICE, "d", "s0")):
        assert isinstance(difference, ViewKey)
        world.feed.changed(difference)
    out = await world.received(2 + 20_001 + 1 + 1)
    assert out[1] == Changed(1, Begin(Kind.SERVICE))
    at = out.index(Changed(1, Put(service(19_999, "10.9.9.9"))))
    assert out[at + 1 : at + 3] == [Changed(1, Put(service(20_000))), Changed(1, Gone(Kind.SERVICE, "d", "s0"))]
    assert at < 20_000 - queued + 500
    assert sum(isinstance(one, Changed) and one.change == Put(service(19_999, "10.9.9.9")) for one in out) == 1


async def test_a_change_is_sent_after_begin_of_its_kind(world: World) -> None:
    """Before Begin, the worker would not know the view."""
    world.view.apply(Put(service(1)))
    world.feed.put(Data("file", "z", b"x"))
    world.feed.whole_view(world.view)
    world.put(service(1, "10.9.9.9"))
    out = await world.received(5)
    assert out[0] == Data("file", "z", b"x")
    assert out[2:4] == [Changed(1, Begin(Kind.SERVICE)), Changed(1, Put(service(1, "10.9.9.9")))]


async def test_sending_lets_other_work_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After SEND_SLICE seconds, other work runs before the next frames are sent."""
    monkeypatch.setattr(feed_queue, "SEND_SLICE", 0.0)
    world.put(*map(service, range(5000)))
    await asyncio.sleep(0)
    first = world.worker.recv(1 << 20)
    assert CHUNK <= len(first) < 2 * CHUNK
    world._reader.feed(first)
    sent = list(world._reader.frames())
    sent += await world.received(5000 - len(sent))
    assert [one.change.object.name for one in sent if isinstance(one, Changed) and isinstance(one.change, Put)] == [
        f"s{number}" for number in range(5000)
    ]


async def test_frames_of_the_worker_are_received(world: World) -> None:
    world.worker.send(frame(Configured(5, "no")))
    async with asyncio.timeout(10):
        while not world.from_worker:
            await asyncio.sleep(0)
    assert world.from_worker == [(3, Configured(5, "no"))]


async def test_the_end_of_a_worker_closes_its_feed(world: World) -> None:
    world.worker.close()
    async with asyncio.timeout(10):
        while not world.feed.closed:
            await asyncio.sleep(0)
    world.put(service(1))
    await asyncio.sleep(0)
    assert world.feed.closed


async def test_a_single_change_is_sent_at_once_and_a_burst_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`flush` sends in the caller's iteration of the loop, but leaves what follows soon to the next iteration."""
    monkeypatch.setattr(feed_queue, "FLUSH_INTERVAL", 60.0)
    world.feed._flushed_at = -60.0
    world.put(service(1))
    world.feed.flush()
    assert world.worker.recv(1 << 20)
    for number in range(2, 5):
        world.put(service(number))
        world.feed.flush()
    with pytest.raises(BlockingIOError):
        world.worker.recv(1 << 20)
    assert list(await world.received(3)) == [Changed(1, Put(service(n))) for n in range(2, 5)]
    world.feed.flush()
    with pytest.raises(BlockingIOError):
        world.worker.recv(1 << 20)
