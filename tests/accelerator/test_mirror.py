"""The copy of an answer table in the memory of the accelerator: it never has a reply that the table may not serve."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcdns.accelerator.layout import LARGE, ROTATIONS
from svcdns.accelerator.memory import REST, Memory
from svcdns.accelerator.mirror import TableMirror
from svcdns.chain.routing import DROPPED
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.reply import Reply
from svcdns.serving import answer_table
from svcdns.serving.answer_table import ENTRY_COST, AnswerTable, Countdown, Details, Entry
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.serving.responder import Responder
from svcdns.wire.ttl import aged
from tests.support.kernel_program import KernelProgram, make_maps
from tests.support.world import Clock

FOREVER = float("inf")
HIT_COUNTER = HitCounter((), Origin(DROPPED))
SMALL, LARGE_SLOTS = 24, 2
TTL_AT = 40


class World:
    """An answer table with a mirror, and the program that reads it."""

    def __init__(self, budget: int, small: int) -> None:
        self.clock = Clock()
        descriptors = make_maps(small, LARGE_SLOTS)
        self.memory = Memory(descriptors, small, LARGE_SLOTS, 2, self.clock)
        self.program = KernelProgram(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.table = AnswerTable(budget, self.clock)
        self.responder = SimpleNamespace(table=self.table, datagrams=True, uniform=True, sampling=None)
        self.mirror = self.table.mirror = self.mirror_of(self.table)
        self.memory.heartbeat(1e6)

    def mirror_of(self, table: AnswerTable, number: int = 3) -> TableMirror:
        responder = SimpleNamespace(**{**vars(self.responder), "table": table})
        return TableMirror(cast("Responder", responder), self.memory, number)

    def replies(self, key: bytes, table: int = 3) -> list[bytes]:
        """Returns the replies with which the program may answer now."""
        return self.program.replies(key, table, self.clock())

    def answered(self, key: bytes) -> bool:
        return bool(self.program.replies(key, 3, self.clock(), count=True))


@contextmanager
def world(budget: int = 1 << 20, small: int = SMALL) -> Iterator[World]:
    """Makes a world, and unmaps its memory afterwards."""
    made = World(budget, small)
    try:
        yield made
    finally:
        made.memory.close()
        made.program.close()


def entry(
    key: bytes,
    *dependencies: Dependency,
    wires: tuple[bytes, ...] = (b"reply" * 12,),
    deadline: float = FOREVER,
    details: Details | None = None,
    hit_counter: HitCounter = HIT_COUNTER,
) -> Entry:
    return Entry.of(key, wires, deadline, dependencies, hit_counter, details)


def counting_down(key: bytes, ttl: int, deadline: float, ends: float) -> Entry:
    """Returns an entry whose TTL begins at TTL_AT. The TTL goes down at `deadline`."""
    wire = bytes(TTL_AT) + ttl.to_bytes(4, "big") + b"rdata"
    return entry(key, wires=(wire,), deadline=deadline, details=Details(countdown=Countdown(((TTL_AT,),), ends)))


def test_an_entry_is_answered_from_the_kernel() -> None:
    with world() as found:
        found.table.put(entry(b"key", wires=(b"first reply", b"other reply")))
        assert found.replies(b"key") == [b"first reply", b"other reply"]
        assert found.replies(b"kez") == []
        assert found.replies(b"key", table=4) == []


@pytest.mark.parametrize("dropped_at_once", [0, 64], ids=["all hidden", "dropped"])
def test_an_invalid_entry_is_not_answered(dropped_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_table, "MAX_DROPPED_AT_ONCE", dropped_at_once)
    with world() as found:
        found.table.put(entry(b"key", ("service", "n", "a")))
        found.table.invalidate([("service", "n", "a")])
        assert found.replies(b"key") == []


@pytest.mark.parametrize("purged", [False, True])
def test_an_entry_that_was_evicted_from_the_table_is_invalidated(purged: bool) -> None:
    """The index of dependencies has its key until the memory of the entry is freed."""
    with world() as found:
        found.table.put(entry(b"key", ("service", "n", "a")))
        found.table.allow(0)
        assert len(found.table) == 0
        assert found.replies(b"key")
        if purged:
            list(found.table.purge())
            assert not found.replies(b"key")
        found.table.invalidate([("service", "n", "a")])
        assert not found.replies(b"key")


def test_an_evicted_entry_is_replaced() -> None:
    with world() as found:
        found.table.put(entry(b"key", wires=(b"reply number 1",)))
        found.table.allow(0)
        found.table.allow(1 << 20)
        found.table.put(entry(b"key", wires=(b"reply number 2",)))
        assert found.replies(b"key") == [b"reply number 2"]
        list(found.table.purge())
        assert found.replies(b"key") == [b"reply number 2"]


def test_a_demoted_entry_comes_back_at_its_next_use() -> None:
    with world() as found:
        found.table.put(entry(b"key"))
        used = found.table.used
        found.mirror.remove(b"key")
        found.table.demote(b"key")
        assert found.table.used == used
        assert not found.replies(b"key")
        assert found.table.find(b"key", found.clock()) is found.table.current[b"key"]
        assert found.replies(b"key")


def test_nothing_is_answered_after_the_end_of_the_heartbeat() -> None:
    with world() as found:
        found.table.put(entry(b"key"))
        found.memory.heartbeat(found.clock() + 0.75)
        found.clock.turn(0.74)
        assert found.replies(b"key")
        found.clock.turn(0.02)
        assert not found.replies(b"key")
        found.memory.heartbeat(found.clock() + 0.75)
        assert found.replies(b"key")
        found.memory.stop()
        assert not found.replies(b"key")


def test_ttls_go_down_each_second_until_the_end() -> None:
    with world() as found:
        begin = found.clock()
        found.table.put(counting_down(b"key", 3, begin + 0.5, begin + 2.9))
        shown = []
        for _ in range(8):
            shown += [int.from_bytes(wire[TTL_AT : TTL_AT + 4], "big") for wire in found.replies(b"key")]
            found.clock.turn(0.4)
        assert shown == [3, 3, 2, 2, 1, 1, 1, 0]


def test_no_ttl_goes_below_zero() -> None:
    with world() as found:
        begin = found.clock()
        found.table.put(counting_down(b"key", 1, begin + 0.5, begin + 30))
        found.clock.turn(1.4)
        assert found.replies(b"key")[0][TTL_AT : TTL_AT + 4] == bytes(4)
        found.clock.turn(0.2)
        assert found.replies(b"key") == []


WATCHED = {
    "observer": replace(DROPPED, observers=(cast("Any", print),)),
    "packet observer": replace(DROPPED, packet_observers=(cast("Any", print),)),
    "tap": replace(DROPPED, taps=(cast("Any", object()),)),
    "limiter": replace(DROPPED, limiter=cast("Any", object())),
    "sampler": replace(DROPPED, sampler=cast("Any", object())),
}
OBSERVED = (None, Reply(), DROPPED)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(entry(b"k" * 97, wires=(bytes(120),)), id="long key"),
        pytest.param(entry(b"key", wires=(bytes(LARGE + 1),)), id="long reply"),
        pytest.param(entry(b"key", wires=(b"rep",)), id="reply not longer than the key"),
        pytest.param(entry(b"key", details=Details(observed=cast("Any", OBSERVED))), id="observed"),
        pytest.param(entry(b"key", details=Details(limited=cast("Any", object()))), id="limited"),
        pytest.param(entry(b"key", details=Details(countdown=Countdown((tuple(range(16)),), 9e9))), id="too many TTLs"),
        *[
            pytest.param(entry(b"key", hit_counter=HitCounter((), Origin(route))), id=name)
            for name, route in WATCHED.items()
        ],
    ],
)
def test_entries_that_stay_in_user_space(found: Entry) -> None:
    with world() as here:
        here.table.put(found)
        assert here.memory.entries == 0


@pytest.mark.parametrize(
    "fields",
    [{"uniform": False}, {"sampling": object()}, {"datagrams": False}],
    ids=["uniform", "sampling", "datagrams"],
)
def test_a_responder_that_must_see_queries_has_no_copies(fields: dict[str, object]) -> None:
    """A reload calls `clear` or `keep`, and so the mirror learns of the new properties."""
    with world() as found:
        mirror = found.mirror
        for name, value in fields.items():
            setattr(mirror.responder, name, value)
        found.table.clear()
        found.table.put(entry(b"key"))
        assert found.memory.entries == 0


def test_of_many_rotations_some_are_chosen_evenly() -> None:
    wires = tuple(b"reply number %02d" % number for number in range(48))
    with world(small=40) as found:
        found.table.put(entry(b"key", wires=wires))
        replies = found.replies(b"key")
        assert len(replies) == ROTATIONS
        assert [one for one in wires if one in replies] == replies
        assert replies[0] == wires[0]
        assert not set(replies).issuperset(wires[:4])


def test_entries_without_room_are_remembered() -> None:
    with world() as found:
        for number in range(SMALL + 2):
            found.table.put(entry(b"%d" % number))
        assert found.memory.entries == SMALL
        assert len(found.mirror.refused) == 2


def test_slots_rest_before_they_are_written_again() -> None:
    with world() as found:
        for number in range(SMALL):
            found.table.put(entry(b"%d" % number))
        found.table.clear()
        found.table.put(entry(b"early"))
        assert found.replies(b"early") == []
        found.clock.turn(REST + 0.01)
        found.table.put(entry(b"late"))
        assert found.replies(b"late")


def test_the_entries_of_another_table_stay_at_a_clear() -> None:
    with world() as found:
        other = AnswerTable(1 << 20, found.clock)
        other.mirror = found.mirror_of(other, 7)
        found.table.put(entry(b"key", wires=(b"reply of table 3",)))
        other.put(entry(b"key", wires=(b"reply of table 7",)))
        found.table.clear()
        assert (found.replies(b"key", 3), found.replies(b"key", 7)) == ([], [b"reply of table 7"])


@dataclass
class Truth:
    """An entry that was put into the table, until a change ends it. The table may have dropped it to save memory."""

    wires: tuple[bytes, ...]
    dependencies: frozenset[Dependency]
    deadline: float
    ends: float
    counts_down: bool
    stays: bool

    def at(self, now: float) -> list[bytes]:
        """Returns the replies that the table may send at the time `now`."""
        if now >= self.ends:
            return []
        if not self.counts_down or now < self.deadline:
            return list(self.wires)
        return [aged(wire, (TTL_AT,), int(now - self.deadline) + 1) for wire in self.wires]


KEYS = st.integers(0, 11)
STEPS: st.SearchStrategy[tuple[str, int, Any]] = st.one_of(
    st.tuples(
        st.just("put"),
        KEYS,
        st.tuples(
            st.sets(st.integers(0, 4), max_size=3),
            st.sampled_from(["plain", "plain", "rotations", "deadline", "countdown", "large"]),
            st.booleans(),
        ),
    ),
    st.tuples(st.sampled_from(["find", "use", "kernel", "drop", "demote"]), KEYS, st.none()),
    st.tuples(st.just("invalidate"), st.just(0), st.sets(st.integers(0, 4), min_size=1, max_size=2)),
    st.tuples(st.just("time"), st.integers(1, 9), st.none()),
    st.tuples(st.sampled_from(["clear", "allow", "purge", "keep", "keep all", "fill", "uses"]), KEYS, st.none()),
)


class Play:
    """Applies steps to a table with a mirror, and to the truth."""

    def __init__(self, found: World) -> None:
        self.world, self.table = found, found.table
        self.alive: dict[bytes, Truth] = {}
        self.number = 0

    def step(self, step: str, number: int, more: Any) -> None:
        key, table, now = b"%d" % number, self.table, self.world.clock()
        match step:
            case "put":
                self.put(key, *more)
            case "find":
                table.find(key, now)
            case "use":
                found = table.current.get(key)
                found = found if found is not None and found.deadline > now else table.find(key, now)
                if found is not None:
                    table.use(found)
            case "kernel":
                self.world.answered(key)
            case "drop":
                table.drop(key)
                self.alive.pop(key, None)
            case "demote":
                table.demote(key)
            case "invalidate":
                gone = {(str(one),) for one in more}
                table.invalidate(gone)
                self.alive = {key: one for key, one in self.alive.items() if one.dependencies.isdisjoint(gone)}
            case "time":
                self.world.clock.turn(number * 0.3 + 0.001)
            case "clear":
                table.clear()
                self.alive.clear()
            case "allow":
                table.allow((number + 1) * (ENTRY_COST + 120))
            case "purge":
                list(table.purge())
            case "keep":
                self.alive = {key: one for key, one in self.alive.items() if one.stays}
                table.keep(self.stays)
            case "keep all":
                table.keep(None)
            case "fill":
                for found in table.usable(now):
                    self.world.mirror.put(found)
            case "uses":
                self.keep_alive()

    def stays(self, found: Entry) -> bool:
        return found.hit_counter.increments == ((1, 1.0),)

    def put(self, key: bytes, dependencies: set[int], kind: str, stays: bool) -> None:
        self.number += 1
        now = self.world.clock()
        wires = tuple(b"%d %d " % (self.number, turn) + bytes(40) for turn in range(3 if kind == "rotations" else 1))
        deadline = ends = FOREVER
        details = None
        if kind == "large":
            wires = (wires[0].ljust(400, b"."),)
        if kind == "deadline":
            deadline = ends = now + 1.7
        if kind == "countdown":
            wires = (wires[0][:TTL_AT].ljust(TTL_AT) + b"\0\0\0\7" + b"rdata",)
            deadline, ends = now + 0.45, now + 4.2
            details = Details(countdown=Countdown(((TTL_AT,),), ends))
        named = [(str(one),) for one in sorted(dependencies)]
        hit_counter = HitCounter(((1, 1.0),) if stays else (), Origin(DROPPED))
        self.table.put(Entry.of(key, wires, deadline, tuple(named), hit_counter, details))
        self.alive[key] = Truth(wires, frozenset(named), deadline, ends, kind == "countdown", stays)

    def keep_alive(self) -> None:
        mirror, now = self.world.mirror, self.world.clock()
        for found in self.world.memory.take_uses():
            for placed, uses in found:
                assert uses > 0
                if mirror.placed.get(placed.key) is placed and self.table.previous:
                    self.table.find(placed.key, now)

    def check(self) -> None:
        """The program has no reply that the table may not send."""
        now = self.world.clock()
        for number in range(12):
            replies = self.world.replies(b"%d" % number)
            if replies:
                assert replies == self.alive[b"%d" % number].at(now)

    def check_end(self) -> None:
        """The program agrees with `find`, and no slot is lost."""
        now, world = self.world.clock(), self.world
        for number in range(12):
            before = world.replies(b"%d" % number)
            found = self.table.find(b"%d" % number, now)
            if found is not None and before:
                assert before == list(found.wires)
        assert world.memory.entries == len(world.mirror.placed)
        for is_large, slots in ((False, SMALL), (True, LARGE_SLOTS)):
            held = sum(len(one.slots) for one in world.mirror.placed.values() if one.is_large == is_large)
            assert world.memory.room(is_large=is_large) == (slots - held, slots)


@pytest.mark.parametrize("at_once", [0, 2, 64], ids=["all hidden", "some hidden", "all dropped"])
@given(steps=st.lists(STEPS, min_size=5, max_size=40))
@settings(max_examples=25)
def test_the_program_never_has_a_reply_that_the_table_may_not_send(
    at_once: int, steps: list[tuple[str, int, Any]]
) -> None:
    with pytest.MonkeyPatch.context() as patch, world(budget=6 * (ENTRY_COST + 120)) as found:
        patch.setattr(answer_table, "MAX_DROPPED_AT_ONCE", at_once)
        play = Play(found)
        for step in steps:
            play.step(*step)
            play.check()
        play.check_end()
