"""A worker in the test's process. The test sends frames as control does, and queries the worker's sockets."""

from __future__ import annotations

import gc
import logging
import socket
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from svcdns.cluster.changes import Begin, Complete, Confirmed, Gone, Kind, Put
from svcdns.cluster.objects import Namespace
from svcdns.eventloop.clock import monotonic
from svcdns.feed.frames import (
    Allow,
    Changed,
    Configured,
    Epoch,
    Swap,
    frame,
)
from svcdns.process.shared_memory import State
from tests.support.worker_world import COREFILE, DB, WEB, World, serving, slice_of
from tests.support.world import counted


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A worker that is drained after the test."""
    made = World(tmp_path)
    yield made
    await made.worker.drain()
    await made.worker.sockets([], [0, 1])


async def test_a_start(world: World) -> None:
    """The worker reports each step of its start: chains, cluster, sockets."""
    assert world.state is State.STARTING
    assert await world.configure(1) == [Configured(1, takes_calls=True)]
    await world.feed(Swap(1))
    assert world.state is State.UNSYNCED
    await world.list_all(WEB)
    assert world.state is State.SYNCED
    await world.listen()
    assert world.state is State.SERVING
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]


async def test_answers_before_the_first_list(world: World) -> None:
    """Until the first list is complete, known names are answered. Unknown names get SERVFAIL instead of NXDOMAIN."""
    await world.configure(1)
    await world.feed(Swap(1))
    await world.listen()
    assert world.state is State.SERVING_UNSYNCED
    await world.change(Begin(Kind.NAMESPACE), Put(Namespace("d")), Put(WEB))
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
    assert await world.ask("nothing.d.svc.cluster.local.") == ["SERVFAIL"]
    await world.list_all(WEB)
    assert await world.ask("nothing.d.svc.cluster.local.") == ["NXDOMAIN"]


async def test_changes_are_in_the_next_answer(world: World) -> None:
    """Replies are stored for existing and nonexistent names, but never used after a change."""
    await serving(world, DB, slice_of("10.0.0.1"))
    name = "db.d.svc.cluster.local."
    for _ in range(3):
        assert await world.ask(name) == ["5 10.0.0.1"]
        assert await world.ask("web.d.svc.cluster.local.") == ["NXDOMAIN"]
    await world.change(Put(slice_of("10.0.0.1", "10.0.0.2")), Put(WEB))
    assert await world.ask(name) == ["5 10.0.0.1", "5 10.0.0.2"]
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
    await world.change(Put(slice_of()), Gone(Kind.SERVICE, "d", "web"))
    assert await world.ask(name) == ["NXDOMAIN"]
    assert await world.ask("web.d.svc.cluster.local.") == ["NXDOMAIN"]
    await world.change(Put(slice_of("10.0.0.3")))
    assert await world.ask(name) == ["5 10.0.0.3"]
    await world.change(Gone(Kind.NAMESPACE, "", "d"))
    assert await world.ask(name) == ["NXDOMAIN"]


async def test_a_new_epoch(world: World) -> None:
    """After control has restarted, known objects are served until the new list is complete. Objects that are not in the
    new list are then removed.
    """
    await serving(world, WEB, DB, slice_of("10.0.0.1"))
    world.worker.new_feed()
    await world.feed(Epoch(2))
    await world.change(Begin(Kind.SERVICE), Put(DB))
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
    await world.change(Complete(Kind.SERVICE))
    assert await world.ask("web.d.svc.cluster.local.") == ["NXDOMAIN"]
    assert await world.ask("db.d.svc.cluster.local.") == ["5 10.0.0.1"]


async def test_stale_data_is_marked(world: World) -> None:
    """Replies from stale data, stored or not, have an extended error (RFC 8914)."""
    await serving(world, WEB)
    names = ("web.d.svc.cluster.local.", "nothing.d.svc.cluster.local.")
    before = [await world.reply(name) for name in names for _ in range(3)]
    await world.change(Confirmed(monotonic() - 299))
    await world.worker.update()
    assert [await world.reply(name) for name in names for _ in range(3)] == before
    await world.change(Confirmed(monotonic() - 301))
    await world.worker.update()
    marked = [await world.reply(name) for name in names for _ in range(3)]
    assert [[option.to_text() for option in reply.options] for reply in marked] == [["EDE 3 (Stale Answer)"]] * 6
    assert [(reply.rcode(), reply.answer, reply.authority) for reply in marked] == [
        (reply.rcode(), reply.answer, reply.authority) for reply in before
    ]
    assert (await world.reply(names[0], edns=False)).edns == -1
    await world.change(Confirmed(monotonic()))
    await world.worker.update()
    assert [await world.reply(name) for name in names for _ in range(3)] == before
    assert all(not reply.options for reply in before)


async def test_half_a_frame_of_an_old_feed_is_dropped(world: World) -> None:
    """When a new feed begins, the incomplete frame of the old feed is dropped."""
    await serving(world, WEB)
    if world.worker.receive(frame(Changed(1, Gone(Kind.SERVICE, "d", "web")))[:-1]):
        await world.worker.run_instructions()
    world.worker.new_feed()
    await world.feed(Epoch(2))
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]


async def test_a_reload_swaps_in_one_step(world: World) -> None:
    """The old chains answer while the new chains are built on the same index. `Swap` exchanges them.
    Counters continue.
    """
    await serving(world, WEB)
    for _ in range(3):
        assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
    assert await world.configure(2, ttl=30) == [Configured(2, takes_calls=True)]
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
    await world.feed(Swap(1))
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
    await world.feed(Swap(2))
    assert await world.ask("web.d.svc.cluster.local.") == ["30 10.96.0.1"]
    world.worker.flush()
    requests = sum(
        value for (name, *_), value in counted(world.counters).items() if name == "coredns_dns_requests_total"
    )
    assert requests == 6


async def test_less_memory(world: World) -> None:
    """`Allow` makes answer tables and caches smaller until the next frame `Epoch`. Later chains are included."""
    await serving(world, WEB)

    def budget() -> int:
        return sum(table.budget for table in world.worker.listeners.tables)

    def room() -> list[float]:
        stores = [store for key, store in world.worker._kept.items() if key[-1] in ("success", "denial")]
        return sorted(store._share for store in stores)

    for _ in range(3):
        assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
    await world.worker.update()
    whole = budget()
    await world.feed(Allow(0.25))
    assert budget() == pytest.approx(whole / 4, rel=0.01)
    assert room() == [0.25, 0.25]
    for _ in range(3):
        assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
    await world.worker.update()
    assert budget() == pytest.approx(whole / 4, rel=0.01)
    await world.configure(2, capacity=2048)
    await world.feed(Swap(2))
    assert room() == [0.25, 0.25]
    await world.feed(Epoch(2))
    assert room() == [1, 1]


async def test_other_slots_are_not_read(world: World) -> None:
    """The worker reads the sockets of another slot only after a message from the supervisor."""
    await serving(world, WEB)
    await world.worker.read(frozenset({1}))
    assert not world.worker.listeners.reading
    await world.worker.read(frozenset({0, 1}))
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]


async def test_a_drain_answers_the_packets_that_have_arrived(world: World) -> None:
    """A worker that stops first answers the queries in its sockets' buffers."""
    await serving(world, WEB)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", world.port))
        for ident in range(100):
            sock.send(dns.message.make_query("web.d.svc.cluster.local.", "A", id=ident).to_wire())
        await world.worker.drain()
        assert world.state is State.DRAINING
        assert sorted(_idents(sock, 100)) == list(range(100))


def _idents(sock: socket.socket, count: int) -> Iterable[int]:
    return [dns.message.from_wire(sock.recv(65535)).id for _ in range(count)]


@pytest.fixture
def log_level() -> Iterator[None]:
    logger = logging.getLogger("svcdns")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.mark.usefixtures("log_level")
async def test_debug_sets_the_level_of_a_worker(world: World) -> None:
    """*debug* sets the log level as long as its chains are active."""
    level = logging.getLogger("svcdns").getEffectiveLevel
    world.corefile = COREFILE.replace("prometheus", "debug")
    await world.configure(1)
    await world.feed(Swap(1))
    assert level() == logging.DEBUG
    world.corefile = COREFILE
    await world.configure(2)
    assert level() == logging.DEBUG
    await world.feed(Swap(2))
    assert level() == logging.INFO


async def test_a_reload_releases_the_chains_before(world: World) -> None:
    """The stored replies and counters of the old chains are freed, too."""
    await serving(world, WEB)
    for name in ("web.d.svc.cluster.local.", "no.d.svc.cluster.local.", "other.d.svc.cluster.local."):
        for _ in range(3):
            await world.ask(name)
    before = [weakref.ref(handler) for handler in world.worker._live.chains.handlers]
    gc.unfreeze()
    await world.configure(2)
    await world.feed(Swap(2))
    await world.worker.update()
    gc.collect()
    assert [reference() for reference in before] == [None, None]


async def test_a_hook_that_fails_does_not_end_the_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await serving(world, WEB)
    handler = world.worker._live.chains.handlers[0]

    def broken(*_: object) -> None:
        raise LookupError("on purpose")

    monkeypatch.setattr(type(handler), "tick", broken, raising=False)
    monkeypatch.setattr(type(handler), "invalidate", broken, raising=False)
    await world.configure(2)
    await world.feed(Swap(2))
    before = counted(world.counters).get(("coredns_panics_total",), 0)
    await world.worker.update()
    await world.change(Gone(Kind.SERVICE, "d", "web"))
    assert counted(world.counters)["coredns_panics_total",] == before + 2
    assert await world.ask("web.d.svc.cluster.local.") == ["NXDOMAIN"]


async def test_a_plugin_that_fails_to_be_built(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await serving(world, WEB)

    def broken(*_: object) -> None:
        raise LookupError("on purpose")

    monkeypatch.setattr(type(world.worker._live.chains.handlers[0]), "__init__", broken)
    (sent,) = await world.configure(2)
    assert isinstance(sent, Configured)
    assert sent.error is not None
    assert sent.error.endswith("Corefile:9:5 - plugin/cache: __init__ failed: LookupError: on purpose")
    assert counted(world.counters)["coredns_panics_total",] == 1
    assert await world.ask("web.d.svc.cluster.local.") == ["5 10.96.0.1"]
