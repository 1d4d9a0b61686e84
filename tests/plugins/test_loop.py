"""The plugin *loop*: probes, and finding the beginning and end of a loop, across workers."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.loop import FIRST_PAUSE, FOUND, MAX_PAUSE, NO_LOOP_PAUSE, RECENT, Loop, Options, Probes, gather
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from tests.support import world

KEY = b"k" * 16
THERE = Reply(rcode=Rcode.NXDOMAIN)
UNREACHED = rcode_only(Rcode.SERVFAIL, "no healthy proxies")


class Node:
    """The workers of one server with the plugin *loop*, and a substitute for control."""

    def __init__(self, count: int = 1) -> None:
        """Creates `count` workers. The first worker sends the probes."""
        self.clock = world.Clock()
        self.asked: list[Query] = []
        self.answer: Callable[[Query], Answer] = lambda _: THERE
        self.data: dict[str, bytes] = {"example.org.": KEY}
        self.reported: dict[str, list[Callable[[bytes], None]]] = {}
        self.counters = [Counters() for _ in range(count)]
        self.workers = [self._worker(slot) for slot in range(count)]

    def _worker(self, slot: int) -> Loop:
        environment = world.environment(
            ask=self._asked,
            clock=self.clock,
            counters=self.counters[slot],
            first=slot == 0,
            data=lambda _, key: self.data.get(key),
            on_data=lambda _, key, call: self.reported.setdefault(key, []).append(call),
            publish=self._publish,
            log=logging.getLogger("svcdns.plugin.loop"),
        )
        return Loop(Options("example.org."), environment)

    def _publish(self, _plugin: str, key: str, payload: bytes) -> None:
        self.data[key] = payload
        for call in self.reported[key]:
            call(payload)

    def _asked(self, query: Query) -> Answer:
        self.asked.append(query)
        return self.answer(query)

    async def start(self) -> None:
        """Starts all workers in the order of their slots, and waits until the first probe is answered."""
        for worker in self.workers:
            worker.start()
        await settle()

    async def after(self, seconds: float) -> None:
        """Moves the clock forward by `seconds`. Each worker's timer runs every second."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.turn(min(1.0, end - self.clock.now))
            for worker in self.workers:
                worker.tick()
            await settle()

    def probe(self, client: Any = world.CLIENT) -> Query:
        """Returns the last probe as a query. It comes from a socket, or from the plugin's own client."""
        last = self.asked[-1]
        return world.query(names.to_text(last.name).upper(), "HINFO", client=client)

    def comes_back(self, slot: int = 0) -> Reply:
        """Passes the last probe to a worker, as if the upstream had returned it. Returns the worker's reply."""
        return world.now(self.workers[slot].handle(self.probe(), world.following(THERE)))

    def forwards(self, slot: int = 0) -> bool:
        """Returns True if the worker forwards a client's query."""
        return world.now(self.workers[slot].handle(world.query("www.example.org."), world.following(THERE))) is THERE

    @property
    def found(self) -> list[float]:
        """Returns the loop metric of each worker."""
        return [world.counted(one).get((FOUND.name, "dns://:53", "example.org."), 0) for one in self.counters]


async def settle() -> None:
    """Runs the event loop until all started tasks wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_probe_is_sent_at_the_start_and_from_time_to_time() -> None:
    """A probe is a query of type HINFO for a new name."""
    node = Node(2)
    await node.start()
    (query,) = node.asked
    labels = names.to_text(query.name).split(".")
    assert [label.isdigit() for label in labels[:2]] == [True, True]
    assert labels[2:] == ["example", "org", ""]
    assert query.rtype == 13
    await node.after(NO_LOOP_PAUSE + 5)
    assert len({query.name for query in node.asked}) == len(node.asked) == 2
    assert node.forwards()
    assert node.found == [0, 0]


async def test_a_probe_is_forwarded_when_sent_and_refused_when_it_returns() -> None:
    """An outgoing probe is forwarded even during a loop. A returning probe gets SERVFAIL."""
    node = Node()
    await node.start()
    mine = node.asked[0]
    for _ in range(2):
        assert world.now(node.workers[0].handle(mine, world.following(THERE))) is THERE
        assert node.comes_back().rcode == Rcode.SERVFAIL


async def test_a_worker_that_receives_a_probe_informs_all_workers(caplog: pytest.LogCaptureFixture) -> None:
    """All workers stop forwarding, one line is logged, and the metric is 1."""
    node = Node(3)
    await node.start()
    with caplog.at_level(logging.INFO, "svcdns"):
        node.comes_back(slot=2)
        node.comes_back(slot=1)
    assert [node.forwards(slot) for slot in range(3)] == [False] * 3
    assert node.found == [1, 1, 1]
    (line,) = caplog.messages
    assert line.startswith('Loop (192.0.2.1:40000 -> 192.0.2.53:53) detected for zone "example.org."')
    assert names.to_text(node.asked[0].name) in line


async def test_clients_with_edns_get_an_extended_error() -> None:
    """The extended error is Not Ready, with a text (RFC 8914 §4.15)."""
    node = Node()
    await node.start()
    node.comes_back()
    following = world.following(THERE)
    reply = world.now(node.workers[0].handle(world.query("www.example.org.", edns=world.edns()), following))
    assert reply.edns is not None
    assert reply.edns.options == ((15, b"\0\x0eforwarding loop"),)
    assert world.now(node.workers[0].handle(world.query("www.example.org."), following)).edns is None


async def test_probes_of_a_loop_become_rarer() -> None:
    """While probes come back, the pause between two probes doubles, from one second up to 30 seconds."""
    node = Node()

    def led_back(_query: Query) -> Answer:
        node.comes_back()
        return THERE

    node.answer = led_back
    await node.start()
    times = []
    for _ in range(240):
        before = len(node.asked)
        await node.after(1)
        if len(node.asked) > before:
            times.append(node.clock.now)
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert FIRST_PAUSE <= pauses[0] <= FIRST_PAUSE + 4
    assert MAX_PAUSE <= pauses[-1] <= MAX_PAUSE + 3
    assert node.found == [1]


async def test_the_end_of_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    """After a probe that does not come back, all workers forward again, and a line is logged."""
    node = Node(2)
    await node.start()
    node.comes_back(slot=1)
    with caplog.at_level(logging.INFO, "svcdns"):
        await node.after(6)
    assert [node.forwards(slot) for slot in range(2)] == [True, True]
    assert node.found == [0, 0]
    assert caplog.messages[1:] == ["the loop is gone: forwarding again zone=example.org."]


async def test_a_probe_without_an_answer_changes_nothing() -> None:
    node = Node()
    node.answer = lambda _: UNREACHED
    await node.start()
    await node.after(45)
    often = len(node.asked)
    assert 4 <= often <= 6
    assert node.forwards()
    await node.after(200)
    assert len(node.asked) == often
    node.comes_back()
    assert node.forwards()  # that probe is too old to count
    while len(node.asked) == often:
        await node.after(1)
    node.comes_back()
    assert not node.forwards()
    await node.after(120)
    assert not node.forwards()


async def test_an_exception_of_the_chain_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Probing continues after the exception."""
    node = Node()

    def fails(_query: Query) -> Answer:
        raise ZeroDivisionError

    node.answer = fails
    await node.start()
    await node.after(4)
    assert len(node.asked) == 2
    assert "the probe failed" in caplog.messages
    assert "ZeroDivisionError" in caplog.text
    node.workers[0].stop()


async def test_a_reload_keeps_a_loop() -> None:
    """A known loop is still a loop after a reload. A new probe is sent immediately."""
    node = Node()
    await node.start()
    node.comes_back()
    node.workers[0].stop()
    assert node.found == [0]
    node.workers = [node._worker(0)]
    assert not node.forwards()
    await node.start()
    assert node.found == [1]
    assert len(node.asked) == 2
    await node.after(3)
    assert node.forwards()


async def test_a_stop_cancels_the_current_probe() -> None:
    node = Node()
    pending: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    node.answer = lambda _: pending
    await node.start()
    node.workers[0].stop()
    await settle()
    assert pending.cancelled()


@pytest.mark.parametrize(
    ("key", "place", "age", "known"),
    [
        pytest.param(KEY, "here", RECENT, True, id="ours"),
        pytest.param(KEY, "here", RECENT + 1, False, id="too-old"),
        pytest.param(KEY, "here", -1, False, id="not-made-yet"),
        pytest.param(b"x" * 16, "here", 0, False, id="another-server"),
        pytest.param(KEY, "there", 0, False, id="another-block"),
    ],
)
def test_only_names_of_this_block_are_probes(key: bytes, place: str, age: float, known: bool) -> None:
    """A name is a probe's name if this server made it for this block within the last `RECENT` seconds."""
    name = Probes(key, place, "example.org.").make(1000.0)
    assert Probes(KEY, "here", "example.org.").include(name, 1000.0 + age) is known


@pytest.mark.parametrize(
    "name", [".", "example.org.", "1.example.org.", "x.1.example.org.", "²².1.example.org.", f"{9**60}.1.example.org."]
)
def test_other_names_are_not_probes(name: str) -> None:
    assert not Probes(KEY, "here", "example.org.").include(names.from_text(name).lower(), 1000.0)


async def test_other_queries_pass() -> None:
    """Queries for other names, and of other types for the probe's name, are forwarded."""
    node = Node()
    await node.start()
    following = world.following(THERE)
    assert world.now(node.workers[0].handle(node.asked[0].changed(rtype=1, client=world.CLIENT), following)) is THERE
    assert world.now(node.workers[0].handle(world.query("1.2.example.org.", "HINFO"), following)) is THERE
    assert node.forwards()


def test_the_key_is_generated_once_for_each_zone() -> None:
    made = gather(Options("example.org."), {})
    assert len(made["example.org."]) == 16
    assert gather(Options("example.org."), made) == made
    assert gather(Options("."), {})["."] != gather(Options("."), {})["."]


def test_takes_no_arguments() -> None:
    """*loop* may occur only once in a block."""
    assert world.options("loop", "loop", zones="a.b") == Options("a.b.")
    assert world.rejection("loop", "loop twice").startswith("2:6 Wrong argument count")
    assert world.rejection("loop", "loop\nloop").startswith("3:1 plugin/loop: this plugin can only be used once")
