"""The workers as control sees them: the frames that each worker gets, whenever it joins."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from svcdns.cluster.changes import Kind, Put
from svcdns.cluster.objects import Service
from svcdns.control.cluster_view import ClusterView
from svcdns.control.plugin_data import DataKey
from svcdns.control.workers import BuildError, CallError, Workers
from svcdns.corefile.blocks import Corefile
from svcdns.feed.frames import (
    Allow,
    Call,
    Changed,
    Configure,
    Configured,
    Data,
    Epoch,
    FrameReader,
    Returned,
    SourceKinds,
    Swap,
    ToControl,
    ToWorker,
    frame,
)
from svcdns.process import framing
from svcdns.process.shared_memory import REGIONS, State, reset, worker_region

EMPTY = Corefile("Corefile", ())


def configure(generation: int, *views: int) -> Configure:
    """Returns a frame with chains that use these views."""
    return Configure(generation, EMPTY, (), tuple(SourceKinds(number, b"", (Kind.SERVICE,)) for number in views))


class Joined:
    """A worker's end of its connection to the control process."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock, self._reader = sock, FrameReader[ToWorker](ToWorker)

    async def received(self, last: Callable[[ToWorker], bool]) -> list[str]:
        """Returns the received frames in short form. Ends at the first frame for which `last` returns True."""
        out: list[str] = []
        async with asyncio.timeout(10):
            while True:
                for content in self._reader.frames():
                    out.append(word(content))
                    if last(content):
                        return out
                self._reader.feed(await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20))

    def send(self, content: ToControl) -> None:
        """Sends a frame to control."""
        self.sock.send(frame(content))


def word(content: ToWorker) -> str:
    """Returns a frame in short form."""
    match content:
        case Epoch():
            return "epoch"
        case Allow():
            return "allow"
        case Configure():
            return f"build {content.generation}"
        case Swap():
            return f"swap {content.generation}"
        case Data():
            return f"data {content.key}"
        case Call():
            return f"call {content.number} {content.function}"
        case Changed():
            return f"{type(content.change).__name__} {content.source}"


class World:
    """The set of workers of a control process, and the cluster views that they get."""

    def __init__(self) -> None:
        """Creates the set of workers, and two cluster views with one Service each."""
        self.views = {number: ClusterView(number, (Kind.SERVICE,), lambda: 0.0) for number in (1, 2)}
        for view in self.views.values():
            view.apply(Put(Service("d", "web", ("10.0.0.1",))))
        self.regions = [memoryview(bytearray(64)) for _ in range(REGIONS)]
        self.workers = Workers(self.views, self.regions, 7)
        self.joined: list[Joined] = []

    def join(self, slot: int = 0, side: int = 0) -> Joined:
        """Connects a worker with this slot, and returns the worker's end of the connection."""
        ours, theirs = socket.socketpair()
        self.workers.joined(slot, worker_region(slot, side), ours.detach())
        self.joined.append(Joined(theirs))
        return self.joined[-1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    for worker in made.joined:
        worker.sock.close()
    for feed in tuple(made.workers._feeds.values()):
        feed.close()


async def serving(world: World) -> Joined:
    """Returns a worker that serves generation 1."""
    worker = world.join()
    world.workers.begin(configure(1, 1), {DataKey("file", "a"): b"x"})
    worker.send(Configured(1))
    await world.workers.built()
    world.workers.swap()
    await worker.received(lambda content: isinstance(content, Swap))
    return worker


def is_serials(source: int) -> Callable[[ToWorker], bool]:
    """Returns a condition that is true for the last frame of a view."""
    return lambda content: isinstance(content, Changed) and word(content) == f"Serials {source}"


async def test_a_worker_that_joins_later_gets_everything(world: World) -> None:
    """The worker gets the plugin data, the current chains and the cluster's objects."""
    await serving(world)
    frames = await world.join().received(is_serials(1))
    assert frames == ["epoch", "data a", "build 1", "swap 1", "Confirmed 1", "Begin 1", "Put 1", "Serials 1"]


async def test_a_worker_that_joins_during_a_reload_builds_its_chains_too(world: World) -> None:
    """The worker builds the current chains and then the new chains, so that the reload can end."""
    first = await serving(world)
    world.workers.build(configure(2, 1, 2), [2])
    first.send(Configured(2))
    second = world.join()
    frames = await second.received(is_serials(2))
    before = ["epoch", "data a", "build 1", "swap 1", "Confirmed 1", "Begin 1", "Put 1", "Serials 1"]
    assert frames == [*before, "data a", "build 2", "Confirmed 2", "Begin 2", "Put 2", "Serials 2"]
    second.send(Configured(1))
    second.send(Configured(2))
    async with asyncio.timeout(30):
        await world.workers.built()
    world.workers.swap()
    assert (await second.received(lambda content: isinstance(content, Swap)))[-1] == "swap 2"


async def test_an_abandoned_reload_is_not_sent(world: World) -> None:
    worker = await serving(world)
    world.workers.build(configure(2, 1), [])
    worker.send(Configured(2, "no such thing"))
    with pytest.raises(BuildError, match="no such thing"):
        await world.workers.built()
    world.workers.abandon()
    frames = await world.join().received(is_serials(1))
    assert "build 2" not in frames
    assert "swap 1" in frames


async def test_changed_data_is_sent(world: World) -> None:
    """`update` sends only the plugin data that has changed."""
    worker = await serving(world)
    world.workers.update({DataKey("file", "a"): b"x", DataKey("file", "b"): b"y"})
    assert (await worker.received(lambda content: isinstance(content, Data)))[-1] == "data b"


async def test_a_reload_waits_for_the_successor_of_an_ended_worker(world: World) -> None:
    first = await serving(world)
    world.workers.build(configure(2, 1), [])
    first.send(Configured(2))
    await world.workers.built()
    first.sock.close()
    async with asyncio.timeout(30):
        while world.workers._feeds:
            await asyncio.sleep(0)
    waiting = asyncio.create_task(world.workers.built())
    await asyncio.sleep(0)
    assert not waiting.done()
    world.join().send(Configured(2))
    async with asyncio.timeout(30):
        await waiting


async def test_a_slot_may_have_two_workers(world: World) -> None:
    """During a replacement both workers get data. The slot's state is that of the worker that serves."""
    old = await serving(world)
    new = world.join(side=1)
    world.workers.update({DataKey("file", "b"): b"y"})
    for worker in (old, new):
        await worker.received(lambda content: isinstance(content, Data) and content.key == "b")
    one, other = (world.regions[worker_region(0, side)] for side in (0, 1))
    for states, shown in (
        ((State.STARTING, State.STARTING), State.STARTING),
        ((State.SERVING, State.STARTING), State.SERVING),
        ((State.SERVING_UNSYNCED, State.STARTING), State.SERVING_UNSYNCED),
        ((State.DRAINING, State.SERVING), State.SERVING),
        ((State.ENDED, State.UNSYNCED), State.UNSYNCED),
        ((State.ENDED, State.STARTING), State.STARTING),
    ):
        reset(one, states[0])
        reset(other, states[1])
        assert world.workers.states() == [shown]


def test_one_heartbeat_is_enough_for_health(world: World) -> None:
    """Control is healthy if one worker has a recent heartbeat, and before the first heartbeat of any worker."""
    assert world.workers.healthy()
    world.regions[worker_region(0, 1)][0:8].cast("d")[0] = time.monotonic()
    assert world.workers.healthy()
    world.regions[worker_region(0, 1)][0:8].cast("d")[0] = time.monotonic() - 10
    assert not world.workers.healthy()


async def test_data_of_one_worker_goes_to_all(world: World) -> None:
    """Each new value is sent once to each worker, also to workers that join later."""
    first = await serving(world)
    second = world.join(1)
    await second.received(is_serials(1))
    for payload in (b"x", b"x", b"y"):
        first.send(Data("loop", ".", payload))
    frames = [await worker.received(lambda content: content == Data("loop", ".", b"y")) for worker in (first, second)]
    assert frames == [["data .", "data ."]] * 2
    assert (await world.join(1).received(is_serials(1)))[:3] == ["epoch", "data a", "data ."]


async def test_a_file_that_is_too_large_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin data does not fit into a frame. No worker gets any part of the change."""
    worker = world.join()
    world.workers.update({DataKey("file", "a"): b"1"})
    monkeypatch.setattr(framing, "MAX_FRAME", 100)
    with pytest.raises(framing.FrameTooLargeError):
        world.workers.update({DataKey("file", "a"): b"2", DataKey("file", "b"): b"x" * 101})
    world.workers.update({DataKey("file", "a"): b"1", DataKey("file", "c"): b"3"})
    assert await worker.received(lambda content: isinstance(content, Data) and content.key == "c") == [
        "epoch",
        "data a",
        "data c",
    ]
    late = world.join(1)
    assert await late.received(lambda content: isinstance(content, Data) and content.key == "c") == [
        "epoch",
        "data a",
        "data c",
    ]


async def accepting_calls(world: World) -> Joined:
    """Returns a worker of this version, which accepts calls."""
    worker = world.join()
    world.workers.begin(configure(1, 1), {})
    worker.send(Configured(1, takes_calls=True))
    await world.workers.built()
    return worker


async def test_a_call_returns_its_result(world: World) -> None:
    """Results arrive in any order. An error of the worker is raised."""
    worker = await accepting_calls(world)
    (region,) = world.workers.callable_workers().values()
    first, second, third = (
        asyncio.create_task(world.workers.call(region, name, b"", 10)) for name in ("one", "two", "three")
    )
    await worker.received(lambda content: isinstance(content, Call) and content.function == "three")
    for returned in (Returned(2, b"second"), Returned(9, b"unknown"), Returned(1, b"first"), Returned(3, b"", "no")):
        worker.send(returned)
    assert await asyncio.gather(first, second) == [b"first", b"second"]
    with pytest.raises(CallError, match=r"^no$"):
        await third


async def test_a_call_ends_with_its_worker(world: World) -> None:
    worker = await accepting_calls(world)
    (region,) = world.workers.callable_workers().values()
    calling = asyncio.create_task(world.workers.call(region, "one", b"", 10))
    await worker.received(lambda content: isinstance(content, Call))
    worker.sock.close()
    with pytest.raises(CallError, match="the worker has ended"):
        await calling
    with pytest.raises(CallError, match="the worker has ended"):
        await world.workers.call(region, "one", b"", 10)


async def test_a_call_has_a_time_limit(world: World) -> None:
    await accepting_calls(world)
    (region,) = world.workers.callable_workers().values()
    with pytest.raises(CallError, match=r"not replied within 0\.01 s"):
        await world.workers.call(region, "one", b"", 0.01)


async def test_workers_of_earlier_versions_get_no_calls(world: World) -> None:
    await serving(world)
    assert world.workers.callable_workers() == {}
