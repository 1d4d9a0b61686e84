"""A worker with a double of the helper: what the program may answer, and what the metrics say."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import dns.message
import msgspec
import pytest

from svcdns.accelerator import client, memory, mirror
from svcdns.accelerator.client import GREETING_TIMEOUT, LONG_RETRY, RETRY
from svcdns.accelerator.layout import MAPS
from svcdns.accelerator.memory import LAST_REPLIES, REST
from svcdns.accelerator.mirrors import Mirrors
from svcdns.accelerator.owner import Accelerator
from svcdns.accelerator.protocol import Greeting
from svcdns.cluster.changes import Gone, Kind, Put
from svcdns.cluster.objects import Service
from svcdns.eventloop.clock import monotonic
from svcdns.feed.frames import Swap
from svcdns.telemetry.query_samples import NO_CLIENT_TEXTS
from tests.support.helper_double import HelperDouble, failing, greeting
from tests.support.worker_world import COREFILE, DB, WEB, World, serving, slice_of
from tests.support.world import counted

NAME = "web.d.svc.cluster.local."
LOCAL = "127.0.0.1"


async def until(condition: Callable[[], object]) -> None:
    """Lets the event loop run until a condition is true."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


class Accelerated(World):
    """A worker that is configured for the accelerator."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.socket = folder / "helper"
        self.passed = 0.0
        """The seconds by which the accelerator's clock is ahead of the others."""
        self.accelerator = self.worker.accelerator = Accelerator(
            str(self.socket), self.worker.listeners, self.counters, lambda: monotonic() + self.passed, lambda _: True
        )
        self.doubles: list[HelperDouble] = []

    def helper(self, made: Greeting | None = None, maps: int = len(MAPS)) -> HelperDouble:
        """Starts a double of the helper."""
        self.socket.unlink(missing_ok=True)
        self.doubles.append(HelperDouble(self.socket, made or greeting(LOCAL), maps))
        return self.doubles[-1]

    def heartbeat(self) -> None:
        self.accelerator.heartbeat(lambda: True)

    async def second(self) -> None:
        """Does what the worker does once a second."""
        await self.worker.update()
        self.heartbeat()

    async def connect(self, helper: HelperDouble) -> None:
        before = len(helper.programs)
        self.heartbeat()
        await until(lambda: len(helper.programs) > before and self.up())
        await self.second()

    def up(self) -> float:
        return self.total("svcdns_accelerator_up")

    def total(self, metric: str) -> float:
        return sum(value for (name, *_), value in counted(self.counters).items() if name == metric)

    def kernel(self, name: str = NAME, rtype: str = "A", times: int = 1) -> list[str]:
        """Sends queries to the program. Returns the records of the last reply, or nothing if it is passed on."""
        packet = dns.message.make_query(name, rtype, use_edns=False, id=9).to_wire()
        wire = None
        for _ in range(times):
            wire = self.doubles[-1].program.packet(packet, LOCAL, self.port, monotonic())
        if wire is None:
            return []
        reply = dns.message.from_wire(wire)
        assert reply.id == 9
        return sorted(f"{rrset.ttl} {rdata}" for rrset in reply.answer for rdata in rrset) or [str(reply.rcode().name)]

    async def store(self, name: str = NAME, rtype: str = "A") -> list[str]:
        """Queries the worker until its table has the reply."""
        for _ in range(3):
            found = await self.ask(name, rtype)
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Accelerated]:
    """A worker that serves two Services. The worker is drained after the test."""
    made = Accelerated(tmp_path)
    await serving(made, WEB, DB, slice_of("10.0.0.1", "10.0.0.2"))
    yield made
    await made.worker.drain()
    await made.worker.sockets([], [0, 1])
    for double in made.doubles:
        double.close()


async def test_the_kernel_gives_the_replies_of_the_table(world: Accelerated) -> None:
    """Entries from before the connection, and later ones."""
    before = await world.store()
    await world.connect(world.helper())
    assert world.kernel() == before == ["5 10.96.0.1"]
    for name in ("db.d.svc.cluster.local.", "nothing.d.svc.cluster.local."):
        assert world.kernel(name) == []
        assert await world.store(name) == world.kernel(name) != []


async def test_a_changed_object_is_not_answered_from_the_kernel(world: Accelerated) -> None:
    await world.connect(world.helper())
    await world.store()
    await world.store("db.d.svc.cluster.local.")
    await world.change(Put(Service("d", "web", ("10.96.0.2",))))
    assert world.kernel() == []
    assert world.kernel("db.d.svc.cluster.local.") != []
    assert await world.store() == world.kernel() == ["5 10.96.0.2"]
    await world.change(Gone(Kind.SERVICE, "d", "web"))
    assert world.kernel() == []
    assert await world.store() == world.kernel() == ["NXDOMAIN"]


async def test_every_reply_is_in_the_metrics(world: Accelerated) -> None:
    await world.connect(world.helper())
    asked = 3 + 3
    await world.store()
    await world.store("db.d.svc.cluster.local.")
    world.kernel(times=100)
    world.kernel("db.d.svc.cluster.local.", times=20)
    world.kernel("nothing.d.svc.cluster.local.", times=7)
    await world.second()
    assert world.total("coredns_dns_requests_total") == asked + 120
    assert world.total("coredns_dns_responses_total") == asked + 120
    assert world.total("svcdns_accelerator_replies_total") == 120
    assert world.total("svcdns_accelerator_passed_total") == 7
    assert world.total("svcdns_accelerator_entries") == 2
    hits = world.total("svcdns_answer_table_hits_total")
    world.kernel(times=30)
    await world.change(Put(Service("d", "web", ("10.96.0.2",))))
    await world.second()
    assert world.total("svcdns_answer_table_hits_total") == hits + 30
    assert world.total("coredns_dns_requests_total") == asked + 150


async def test_a_stop_counts_the_last_replies(world: Accelerated) -> None:
    """After the stop, the program answers nothing, and the connection is closed."""
    helper = world.helper()
    await world.connect(helper)
    await world.store()
    world.kernel(times=50)
    await world.worker.drain()
    assert world.kernel() == []
    assert world.total("coredns_dns_requests_total") == 53
    assert (world.up(), helper.has_owner()) == (0, False)
    world.heartbeat()
    assert len(helper.programs) == 1


async def test_a_worker_without_its_changes_does_not_prolong_the_heartbeat(world: Accelerated) -> None:
    helper = world.helper()
    await world.connect(helper)
    await world.store()
    packet = dns.message.make_query(NAME, "A", use_edns=False).to_wire()
    world.accelerator.heartbeat(lambda: False)
    later = monotonic() + 0.8
    assert helper.program.packet(packet, LOCAL, world.port, later) is None
    world.passed = 0.8
    world.heartbeat()
    assert helper.program.packet(packet, LOCAL, world.port, later) is not None


async def test_a_worker_that_was_suspended_after_it_had_read_the_feed(world: Accelerated) -> None:
    """It has not read what came meanwhile, so the program stops answering as if the worker were still suspended."""
    helper = world.helper()
    await world.connect(helper)
    await world.store()
    packet = dns.message.make_query(NAME, "A", use_edns=False).to_wire()

    def suspended() -> bool:
        world.passed += 5
        return True

    world.accelerator.heartbeat(suspended)
    assert helper.program.packet(packet, LOCAL, world.port, monotonic() + world.passed) is None
    world.heartbeat()
    assert helper.program.packet(packet, LOCAL, world.port, monotonic() + world.passed) is not None


async def test_a_reload(world: Accelerated) -> None:
    """New chains with the same answers keep the entries. Other answers, and a plugin that sees queries, end them."""
    await world.connect(world.helper())
    await world.store()
    await world.configure(2)
    await world.feed(Swap(2))
    await world.second()
    assert world.kernel() == ["5 10.96.0.1"]
    await world.configure(3, ttl=30)
    await world.feed(Swap(3))
    assert world.kernel() == []
    assert await world.store() == world.kernel() == ["30 10.96.0.1"]
    world.corefile = COREFILE.replace("prometheus", "log")
    await world.configure(4, ttl=30)
    await world.feed(Swap(4))
    await world.store()
    await world.second()
    assert world.kernel() == []


ADDED = {
    "acl": COREFILE.replace("prometheus", "acl {{\n        block net 203.0.113.0/24\n    }}"),
    "view": COREFILE.replace("prometheus", "view never {{\n        expr false\n    }}") + COREFILE,
    "another block": COREFILE + "svc.cluster.local {{\n    bind 127.0.0.1\n    whoami\n}}\n",
}


@pytest.mark.parametrize("added", ADDED)
async def test_a_reload_that_adds_clients_or_zones(world: Accelerated, added: str) -> None:
    """Replies that depend on the client now, and names of another block, are not answered from the old replies."""
    await world.connect(world.helper())
    await world.store()
    assert world.kernel() == ["5 10.96.0.1"]
    world.corefile = ADDED[added]
    await world.configure(2)
    await world.feed(Swap(2))
    assert world.kernel() == []
    await world.store()
    await world.second()
    assert world.kernel() == []
    world.corefile = COREFILE
    await world.configure(3)
    await world.feed(Swap(3))
    world.passed += LAST_REPLIES
    world.heartbeat()
    assert await world.store() == world.kernel() == ["5 10.96.0.1"]


async def test_the_helper_dies(world: Accelerated, caplog: pytest.LogCaptureFixture) -> None:
    """The server answers itself. Its next connection gets all entries again."""
    caplog.set_level(logging.INFO, "svcdns")
    first = world.helper()
    await world.connect(first)
    await world.store()
    world.kernel(times=10)
    first.close()
    await until(lambda: not world.up())
    await until(lambda: not world.accelerator._finishing)
    assert await world.ask(NAME) == ["5 10.96.0.1"]
    world.heartbeat()
    world.passed += RETRY + 0.1
    world.heartbeat()
    world.heartbeat()
    lines = [one.getMessage() for one in caplog.records if one.getMessage().startswith("accelerator")]
    assert lines == [
        "accelerator connected interface=eth0 addresses=1",
        'accelerator not used reason="the helper has closed the connection"',
        f'accelerator not used reason="no helper at {world.socket}: Connection refused"',
    ]
    world.passed += RETRY + 0.1
    await world.connect(world.helper())
    assert world.kernel() == ["5 10.96.0.1"]
    assert world.total("coredns_dns_requests_total") == 3 + 10 + 1


async def test_a_replaced_worker_does_not_take_the_program_back(world: Accelerated) -> None:
    helper = world.helper()
    await world.connect(helper)
    await world.store()
    helper.replace()
    await until(lambda: not world.up())
    assert world.kernel() == []
    world.passed += RETRY + 0.1
    world.heartbeat()
    assert await world.ask(NAME) == ["5 10.96.0.1"]
    assert len(helper.programs) == 1
    world.passed += LONG_RETRY
    await world.connect(helper)


def fails(*_: object) -> int:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("method", ["steps", "place", "_count"])
async def test_an_unexpected_error(
    world: Accelerated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """The worker answers without the accelerator, and connects again later."""
    caplog.set_level(logging.WARNING, "svcdns")
    helper = world.helper()
    await world.connect(helper)
    await world.store()
    with monkeypatch.context() as patched:
        patched.setattr(Mirrors, method, fails)
        await world.worker.update()
        await world.worker.read(frozenset({0}))
        assert (world.up(), world.kernel()) == (0, [])
        await until(lambda: not world.accelerator._finishing)
        assert await world.ask(NAME) == ["5 10.96.0.1"]
    lines = [one.getMessage() for one in caplog.records if one.getMessage().startswith("accelerator")]
    assert lines == ['accelerator not used reason="unexpected error: ZeroDivisionError: a bug"']
    world.passed += RETRY + 0.1
    world.heartbeat()
    assert len(helper.programs) == 1
    world.passed += LONG_RETRY
    await world.connect(helper)
    assert world.kernel() == ["5 10.96.0.1"]


async def reload(world: Accelerated) -> None:
    await world.configure(2, ttl=30)
    await world.feed(Swap(2))


CHANGES: dict[str, Callable[[Accelerated], Awaitable[object]]] = {
    "put": lambda world: world.store("db.d.svc.cluster.local."),
    "remove": lambda world: world.change(Put(Service("d", "web", ("10.96.0.2",))), Gone(Kind.SERVICE, "d", "db")),
    "clear": reload,
}
"""Changes of the answer table that call a method of its mirror."""


@pytest.mark.parametrize("method", CHANGES)
async def test_an_unexpected_error_does_not_interrupt_a_change(
    world: Accelerated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """The program stops before the change is complete, so the reply that could not be removed is not sent."""
    caplog.set_level(logging.WARNING, "svcdns")
    helper = world.helper()
    await world.connect(helper)
    await world.store()
    assert world.kernel() == ["5 10.96.0.1"]
    with monkeypatch.context() as patched:
        patched.setattr(mirror.TableMirror, method, fails)
        await CHANGES[method](world)
    assert (world.up(), world.kernel(), helper.has_owner()) == (0, [], False)
    assert all(one.mirror is None for one in world.worker.listeners.tables)
    assert await world.store() == {"remove": ["5 10.96.0.2"], "clear": ["30 10.96.0.1"]}.get(method, ["5 10.96.0.1"])
    found = await world.store("db.d.svc.cluster.local.")
    assert (found == ["NXDOMAIN"]) == (method == "remove")
    await until(lambda: not world.accelerator._finishing)
    lines = [one.getMessage() for one in caplog.records if one.getMessage().startswith("accelerator")]
    assert lines == ['accelerator not used reason="unexpected error: ZeroDivisionError: a bug"']


async def test_an_unexpected_error_at_a_heartbeat(world: Accelerated, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = world.helper()
    await world.connect(helper)
    await world.store()
    monkeypatch.setattr(memory.Memory, "heartbeat", fails)
    world.heartbeat()
    assert (world.up(), world.kernel(), helper.has_owner()) == (0, [], False)
    assert await world.ask(NAME) == ["5 10.96.0.1"]


async def test_an_unexpected_error_while_connecting(
    world: Accelerated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Mirrors, "place", fails)
    world.helper()
    world.heartbeat()
    await until(lambda: "ZeroDivisionError: a bug" in caplog.text)
    assert world.up() == 0
    assert await world.store() == ["5 10.96.0.1"]


@pytest.mark.parametrize(
    ("made", "maps", "text"),
    [
        pytest.param(failing("no permission"), len(MAPS), "no permission", id="error"),
        pytest.param(greeting(LOCAL), len(MAPS) - 1, "a descriptor for each map", id="maps missing"),
    ],
)
async def test_a_helper_without_a_program(
    world: Accelerated, made: Greeting, maps: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.helper(made, maps)
    world.heartbeat()
    await until(lambda: text in caplog.text)
    assert world.up() == 0
    assert await world.store() == ["5 10.96.0.1"]


@pytest.mark.parametrize(("octets", "is_answered"), [(0, True), (1, False)], ids=["fits", "too long"])
async def test_a_reply_longer_than_the_mtu_is_not_copied(world: Accelerated, octets: int, is_answered: bool) -> None:
    await world.store()
    (entry,) = world.worker.listeners.tables[0].usable(monotonic())
    mtu = 20 + 8 + 2 + len(entry.wires[0]) - octets
    await world.connect(world.helper(msgspec.structs.replace(greeting(LOCAL), mtu=mtu)))
    assert (world.kernel() != []) == is_answered


async def test_a_helper_that_is_silent(world: Accelerated, caplog: pytest.LogCaptureFixture) -> None:
    """After a while, the worker gives up, and connects anew."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(str(world.socket))
        silent.listen()
        world.heartbeat()
        world.passed += GREETING_TIMEOUT - 0.1
        world.heartbeat()
        assert "in time" not in caplog.text
        world.passed += 0.2
        world.heartbeat()
        assert "did not send the maps in time" in caplog.text
    world.passed += RETRY + 0.1
    await world.connect(world.helper())
    assert await world.store() == world.kernel()


async def test_files_are_not_accepted_as_maps(world: Accelerated, caplog: pytest.LogCaptureFixture) -> None:
    world.accelerator._client._is_map = client.is_bpf_map
    world.helper()
    world.heartbeat()
    await until(lambda: "a descriptor for each map" in caplog.text)
    assert world.up() == 0


@pytest.mark.parametrize(
    ("addresses", "places"), [((LOCAL, "fd00::1"), [LOCAL]), (("10.0.0.1",), [])], ids=["bound", "another"]
)
async def test_only_addresses_of_the_interface_are_places(
    world: Accelerated, addresses: tuple[str, ...], places: list[str]
) -> None:
    helper = world.helper(greeting(*addresses))
    await world.connect(helper)
    assert [(address, port) for address, port, _ in helper.program.places()] == [(one, world.port) for one in places]
    await world.worker.read(frozenset({1}))
    assert helper.program.places() == []


async def test_sockets_of_other_workers_are_no_places(world: Accelerated) -> None:
    """The worker has the sockets of all workers. It reads those of its own slot."""
    helper = world.helper()
    (one,) = world.worker.listeners.datagram_sockets
    descriptors = [os.dup(one.sock.fileno()) for _ in range(2)]
    described = [msgspec.structs.replace(one.description, id=10 + slot, slot=slot) for slot in (1, 0)]
    await world.worker.sockets(list(zip(described, descriptors, strict=True)), [one.description.id])
    await world.connect(helper)
    assert [(address, port) for address, port, _ in helper.program.places()] == [(LOCAL, world.port)]
    assert await world.store() == world.kernel() == ["5 10.96.0.1"]
    await world.worker.sockets([], [10, 11])


async def test_names_are_sampled_without_clients(world: Accelerated) -> None:
    """The plugin *traffic* counts the names of all queries. The kernel sees no clients."""
    world.corefile = COREFILE.replace("prometheus", "prometheus\n    traffic")
    await world.configure(2)
    await world.feed(Swap(2))
    await world.connect(world.helper())
    await world.store()
    world.kernel(times=300)
    await world.second()
    samples = list(world.worker.listeners.ring.samples())
    assert {one.client for one in samples} == {LOCAL, "0.0.0.0"}
    unseen = [one for one in samples if one.client in NO_CLIENT_TEXTS]
    assert sum(one.weight for one in unseen) == pytest.approx(300)
    assert {(one.rcode, one.is_local, one.key[10:14]) for one in unseen} == {(0, True, b"\3web")}


async def test_scarce_slots_go_to_used_entries(world: Accelerated) -> None:
    """An unused entry leaves the memory, and comes back at its next use."""
    helper = world.helper(greeting(LOCAL, small=16))
    await world.connect(helper)
    names = [f"no-{number}.d.svc.cluster.local." for number in range(16)]
    for name in names:
        await world.store(name)
    await world.second()
    world.kernel(names[0])
    await world.second()
    await world.second()
    answered = [name for name in names if world.kernel(name)]
    assert names[0] in answered
    assert len(answered) < 16
    gone = next(name for name in names if name not in answered)
    world.passed += REST + 0.1
    assert await world.ask(gone) == ["NXDOMAIN"]
    assert world.kernel(gone) == ["NXDOMAIN"]


@pytest.mark.parametrize("remembered", [2, 4096], ids=["unknown", "known"])
async def test_more_entries_than_slots(world: Accelerated, monkeypatch: pytest.MonkeyPatch, remembered: int) -> None:
    """An entry without room is copied at its next use after there is room."""
    monkeypatch.setattr(mirror, "MAX_REFUSED", remembered)
    names = [f"no-{number}.d.svc.cluster.local." for number in range(30)]
    for name in names:
        await world.store(name)
    await world.connect(world.helper(greeting(LOCAL, small=16)))
    assert sum(world.kernel(name) != [] for name in names) == 16
    for _ in range(4):
        world.passed += REST + 0.1
        await world.second()
    waiting = names[16]
    assert world.kernel(waiting) == []
    assert await world.ask(waiting) == ["NXDOMAIN"]
    assert world.kernel(waiting) == ["NXDOMAIN"]


async def test_unused_entries_leave_before_the_reserve_is_used(world: Accelerated) -> None:
    """One slot of 16 is the reserve for new entries. While no other slot is free, no entry could come back."""
    names = [f"no-{number}.d.svc.cluster.local." for number in range(15)]
    for name in names:
        await world.store(name)
    await world.connect(world.helper(greeting(LOCAL, small=16)))
    for _ in range(3):
        await world.second()
    assert sum(world.kernel(name) != [] for name in names) == 14


async def test_entries_that_only_the_kernel_uses_stay_in_the_table(world: Accelerated) -> None:
    await world.connect(world.helper())
    await world.store()
    (table,) = [one for one in world.worker.listeners.tables if one.mirror is not None]
    for _ in range(6):
        world.kernel()
        table.start_generation_of_used()
        await world.second()
    list(table.purge())
    assert world.kernel() == ["5 10.96.0.1"]
    assert len(table) == 1
