"""The addresses and ports at which the program answers, and under which answer table."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcdns.accelerator import hit_numbers
from svcdns.accelerator.memory import LAST_REPLIES, Memory
from svcdns.accelerator.mirrors import LOOK, Mirrors
from svcdns.chain.routing import DROPPED
from svcdns.process.sample_memory import private_ring
from svcdns.serving.answer_table import AnswerTable, Entry
from svcdns.serving.listeners import Listeners
from svcdns.serving.metrics import Durations, HitCounter, Origin
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.query_samples import Ring
from tests.support.kernel_program import KernelProgram, make_maps
from tests.support.world import Clock

SLOTS = 12
V4, V6 = "10.0.0.1", "fd00::1"
ANY4, ANY6 = "0.0.0.0", "::"


def a_socket(address: str, port: int, responder: Any) -> Any:
    """Returns a listening socket. Without a responder, this worker does not read it."""
    return SimpleNamespace(
        sock=SimpleNamespace(getsockname=lambda: (address, port)),
        description=SimpleNamespace(wildcard=address in (ANY4, ANY6)),
        reader=None if responder is None else SimpleNamespace(responder=responder),
    )


def a_responder(*, is_uniform: bool = True) -> Any:
    table = AnswerTable(1 << 20, Clock())
    return SimpleNamespace(
        table=table,
        datagrams=True,
        uniform=is_uniform,
        sampling=None,
        durations=Durations(),
        listener=SimpleNamespace(server="dns://:53", records_traffic=False),
        metrics=SimpleNamespace(family=1),
    )


FIRST, SECOND = a_responder(), a_responder()
SPECIAL = a_responder(is_uniform=False)


@pytest.mark.parametrize(
    ("sockets", "places"),
    [
        pytest.param([(ANY4, 53, FIRST), (ANY6, 53, SECOND)], [(V4, 53, 0), (V6, 53, 1)], id="all addresses"),
        pytest.param([(ANY4, 53, FIRST), (ANY4, 5353, FIRST)], [(V4, 53, 0), (V4, 5353, 0)], id="two ports"),
        pytest.param([(ANY4, 53, FIRST), (V4, 53, SECOND)], [(V4, 53, 0)], id="one address before all"),
        pytest.param([(ANY4, 53, FIRST), (V4, 53, SPECIAL)], [], id="one address whose replies differ"),
        pytest.param([(ANY4, 53, FIRST), (V4, 53, None)], [], id="one address of another transport"),
        pytest.param([("10.0.0.2", 53, FIRST), (V6, 53, SECOND)], [(V6, 53, 0)], id="another interface"),
        pytest.param([(ANY4, 53, SPECIAL)], [], id="replies differ"),
    ],
)
def test_places(sockets: list[tuple[str, int, Any]], places: list[tuple[str, int, int]]) -> None:
    descriptors = make_maps()
    memory, program = Memory(descriptors, 64, 8, 2, Clock()), KernelProgram(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    listeners = SimpleNamespace(datagram_sockets=[a_socket(*one) for one in sockets], responders=[])
    mirrors = Mirrors(memory, [V4, V6], cast("Listeners", listeners), Counters(), Clock(), reraise)
    assert mirrors.place() == 0
    memory.heartbeat(1e6)
    assert program.places() == places
    attached = {id(one.table) for *_, one in sockets if one is not None and one.table.mirror is not None}
    assert len(attached) == len({table for *_, table in places})
    listeners.datagram_sockets = []
    mirrors.place()
    assert program.places() == []
    assert all(one.table.mirror is None for *_, one in sockets if one is not None)
    memory.close()
    program.close()


def reraise(error: Exception) -> None:
    raise error


class Play:
    """Two responders whose tables have mirrors. Places come and go."""

    def __init__(self) -> None:
        descriptors = make_maps(SLOTS, 4)
        self.clock = Clock()
        self.memory, self.program = Memory(descriptors, SLOTS, 4, 2, self.clock), KernelProgram(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.responders = [a_responder(), a_responder()]
        self.counters = [[HitCounter((), Origin(DROPPED)) for _ in range(3)] for _ in self.responders]
        self.listeners = SimpleNamespace(datagram_sockets=[], responders=self.responders, ring=Ring(private_ring()))
        listeners = cast("Listeners", self.listeners)
        self.mirrors = Mirrors(self.memory, [V4], listeners, Counters(), self.clock, reraise)
        self.sent = 0

    def step(self, step: str, which: int, number: int) -> None:
        responder, key = self.responders[which], b"%15d" % number
        match step:
            case "place":
                self.listeners.datagram_sockets = [
                    a_socket(V4, 53 + one, self.responders[one]) for one in range(2) if number >> one & 1
                ]
                self.mirrors.place()
                self.clock.turn(LAST_REPLIES)
                self.memory.heartbeat(self.clock() + 1.0)
            case "put":
                counter = self.counters[which][number % 3]
                responder.table.put(Entry(key, b"%20d" % number, float("inf"), (("d", key.decode()),), counter))
            case "query":
                self.memory.heartbeat(self.clock() + 1.0)
                for _ in range(3):
                    self.sent += self.program.packet(b"id" + key, V4, 53 + which, self.clock()) is not None
            case "drop":
                responder.table.drop(key)
            case "age":
                responder.table.start_generation_of_used()
            case "clear":
                responder.table.clear()
            case "traffic":
                responder.listener.records_traffic = bool(number & 1)
            case "time":
                self.clock.turn(0.7)
            case "second":
                list(self.mirrors.steps())

    def end(self) -> None:
        self.mirrors.end()
        self.mirrors.finish()
        assert sum(one.hits for counters in self.counters for one in counters) == self.sent
        assert self.sent == sum(sum(one.durations.buckets) for one in self.responders)
        assert all(one.table.mirror is None for one in self.responders)
        self.program.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["place", "put", "put", "put", "query", "query", "drop", "age", "clear", "traffic", "time", "second"]
        ),
        st.integers(0, 1),
        st.integers(0, 15),
    ),
    min_size=10,
    max_size=80,
)


@given(steps=STEPS)
@settings(max_examples=40)
def test_every_reply_is_counted_while_places_come_and_go(steps: list[tuple[str, int, int]]) -> None:
    """There are fewer slots than entries, and numbers for two of six hit counters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hit_numbers, "HIT_COUNTERS", 3)
        play = Play()
        for step in [("place", 0, 3), *steps]:
            play.step(*step)
        play.end()


def test_replies_before_a_place_ends_are_counted_after_a_slow_update() -> None:
    """The second of the place's end has counted already. The number of the table stays until the next one."""
    play = Play()
    play.step("place", 0, 3)
    play.step("put", 1, 1)
    play.step("place", 0, 3)
    update = play.mirrors.steps()
    next(update)
    play.step("query", 1, 1)
    play.step("place", 0, 1)
    play.clock.turn(5)
    list(update)
    play.step("second", 0, 0)
    assert play.sent == 3
    play.end()


def test_used_entries_are_looked_up_after_ten_seconds_or_when_the_table_has_grown() -> None:
    """More often would cost a few milliseconds each second. The second entry is used only after the first look."""
    play = Play()
    play.step("place", 0, 1)
    table = play.responders[0].table
    for number in range(2):
        play.step("put", 0, number)
    play.step("age", 0, 0)
    play.step("query", 0, 0)
    play.step("second", 0, 0)
    assert list(table.current) == [b"%15d" % 0]
    play.step("query", 0, 1)
    play.step("second", 0, 0)
    assert list(table.current) == [b"%15d" % 0]
    play.clock.turn(LOOK)
    play.step("second", 0, 0)
    assert list(table.current) == [b"%15d" % 0, b"%15d" % 1]
    play.step("put", 0, 2)
    play.step("age", 0, 0)
    for number in range(3):
        play.step("query", 0, number)
    play.step("second", 0, 0)
    assert len(table.current) == 3
    play.end()


def test_numbers_of_tables_become_free_although_hit_counters_have_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hit_numbers, "HIT_COUNTERS", 1)
    play = Play()
    play.step("place", 0, 3)
    for number in range(2):
        play.step("put", number, number)
        play.step("query", number, number)
    play.step("place", 0, 1)
    for _ in range(5):
        play.step("time", 0, 0)
        play.step("second", 0, 0)
    earlier, play.responders[1] = play.responders[1], a_responder()
    play.step("place", 0, 3)
    assert [table for *_, table in play.program.places()] == [0, 1]
    play.responders[1] = earlier
    play.end()


def test_a_place_that_comes_back_has_the_rules_of_the_new_chains() -> None:
    play = Play()
    play.step("place", 0, 3)
    responder = play.responders[1]
    for is_uniform, places in ((False, 1), (True, 3)):
        responder.uniform = is_uniform
        responder.table.clear()
        play.step("place", 0, places)
    play.step("put", 1, 1)
    play.step("query", 1, 1)
    assert play.sent == 3
    play.end()
