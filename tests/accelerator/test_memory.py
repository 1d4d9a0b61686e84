"""The memory of the accelerator: exact counts of replies, slots that are used again, and places."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations_with_replacement
from random import Random
from struct import unpack_from
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcdns.accelerator import hit_numbers
from svcdns.accelerator import memory as memory_module
from svcdns.accelerator.hit_numbers import UNNUMBERED
from svcdns.accelerator.layout import (
    HEAD_FIELDS,
    KEY_AT,
    NAME_AT,
    OFFSETS_SIZE,
    PLACE,
    PLACE_CHANGES,
    PLACE_COUNT,
    PLACES,
    ROTATIONS,
    SETS,
    SMALL,
    SMALL_SIZE,
    STATE,
    TAIL_AT,
    TTLS,
    key_hash,
    key_tag,
)
from svcdns.accelerator.memory import COUNTER_REST, LAST_REPLIES, REST, Memory, Place, Placed
from svcdns.chain.routing import DROPPED
from svcdns.serving.metrics import HitCounter, Origin
from tests.support.kernel_program import KernelProgram, make_maps
from tests.support.world import Clock

SLOTS, LARGE_SLOTS = 20, 4
TABLE = 0
REPLY = bytes(60)
KEY = b"key"


def counter() -> HitCounter:
    return HitCounter((), Origin(DROPPED))


@contextmanager
def memory(clock: Clock, slots: int = SLOTS) -> Iterator[tuple[Memory, KernelProgram]]:
    """Makes a memory and the program that reads it, and unmaps the memory afterwards."""
    descriptors = make_maps(slots, LARGE_SLOTS)
    made, program = Memory(descriptors, slots, LARGE_SLOTS, 2, clock), KernelProgram(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    made.heartbeat(1e6)
    try:
        yield made, program
    finally:
        made.close()
        program.close()


def test_places_are_answered_under_the_number_of_their_table() -> None:
    packet, clock = b"id" + bytes(30), Clock()
    with memory(clock) as (found, program):
        found.put(packet[2:], (REPLY,), 5, counter())
        found.place([Place("10.0.0.1", 53, 5), Place("fd00::1", 53, 6), Place("10.0.0.1", 5353, 5)])
        clock.turn(LAST_REPLIES)
        found.heartbeat(1e6)
        assert program.packet(packet, "10.0.0.1", 53, 1000.0) == b"id" + REPLY
        assert program.packet(packet, "10.0.0.1", 5353, 1000.0) == b"id" + REPLY
        assert program.packet(packet, "fd00::1", 53, 1000.0) is None
        assert program.packet(packet, "10.0.0.2", 53, 1000.0) is None
        found.place([Place("fd00::1", 53, 5)])
        clock.turn(LAST_REPLIES)
        found.heartbeat(1e6)
        assert program.places() == [("fd00::1", 53, 5)]


def test_places_change_only_after_the_last_replies() -> None:
    """The same places do not stop the program."""
    packet, clock = b"id" + bytes(30), Clock()
    old, new = Place("10.0.0.1", 53, TABLE), Place("10.0.0.2", 53, TABLE)
    with memory(clock) as (found, program):
        found.put(packet[2:], (REPLY,), TABLE, counter())
        found.place([old])
        clock.turn(LAST_REPLIES)
        found.heartbeat(1e6)
        found.place([old])
        assert program.packet(packet, "10.0.0.1", 53, clock()) == b"id" + REPLY
        before = bytes(found._state[STATE.size : STATE.size + PLACE.size])
        for places in ([new, old], [new]):
            found.place(places)
            found.heartbeat(1e6)
            assert bytes(found._state[STATE.size : STATE.size + PLACE.size]) == before
            assert program.packet(packet, "10.0.0.1", 53, clock()) is None
        clock.turn(LAST_REPLIES)
        found.heartbeat(1e6)
        assert program.packet(packet, "10.0.0.1", 53, clock()) is None
        assert program.packet(packet, "10.0.0.2", 53, clock()) == b"id" + REPLY


def test_more_places_than_there_is_room_for_are_left_out() -> None:
    clock = Clock()
    with memory(clock) as (found, program):
        found.place([Place("10.0.0.1", port, 0) for port in range(PLACES + 1)])
        clock.turn(LAST_REPLIES)
        found.heartbeat(1e6)
        assert len(program.places()) == PLACES


def test_no_packet_gets_the_reply_of_another_place_however_long_it_takes() -> None:
    """A packet reads half of a place, then the other half, and `PLACE_CHANGES` before and after: each at any time."""
    clock, seen = Clock(), list[bytes]()
    first, second = (Place("10.0.0.1", 53, 1), Place("10.0.0.2", 53, 2))
    with memory(clock) as (found, _):
        state = found._state

        def look() -> None:
            seen.append(state[: STATE.size + PLACE.size])

        found._state, found._place_count, found._valid_until = (  # type: ignore[assignment]
            Stores(stored, look) for stored in (state, found._place_count, found._valid_until)
        )
        for places in ([first, second], [second, first], [first]):
            found.place(places)
            clock.turn(LAST_REPLIES)
            found.heartbeat(1e6)
        look()
    answered = set()
    for begin, middle, end in combinations_with_replacement(seen, 3):
        (before,), (after,) = (unpack_from("<I", at, PLACE_CHANGES) for at in (begin, end))
        if before == after and not before & 1 and unpack_from("<I", begin, PLACE_COUNT)[0] and any(end[:8]):
            _, *listener = PLACE.unpack_from(begin, STATE.size)
            address, *_ = PLACE.unpack_from(middle, STATE.size)
            answered.add((address[3], listener[2]))
    assert answered == {(1, 1), (2, 2)}


def test_an_entry_without_room_changes_nothing() -> None:
    clock = Clock()
    with memory(clock) as (found, _):
        placed = [
            found.put(b"%d" % number, (bytes(NAME_AT + SMALL + 1),), TABLE, counter())
            for number in range(LARGE_SLOTS + 1)
        ]
        assert placed[-1] is None
        assert found.entries == LARGE_SLOTS
        assert found.room(is_large=True) == (0, LARGE_SLOTS)
        assert placed[0] is not None
        found.remove(placed[0])
        assert found.room(is_large=True) == (1, LARGE_SLOTS)
        clock.turn(REST + 0.1)
        assert found.put(b"new", (bytes(NAME_AT + SMALL + 1),), TABLE, counter()) is not None


class Stores:
    """A memory that calls a function before each store."""

    def __init__(self, stored: Any, before: Callable[[], None]) -> None:
        self.stored, self.before = stored, before
        self.release = getattr(stored, "release", None)

    def __getitem__(self, where: int) -> Any:
        return self.stored[where]

    def __setitem__(self, where: slice | int, value: Any) -> None:
        self.before()
        self.stored[where] = value


class PausedPackets:
    """Packets in the program. Before each store to a slot they go on, as if the program were that slow.

    A packet is the slot that the program has found for KEY, and the highest version that was removed before.
    """

    def __init__(self, made: Memory) -> None:
        pool, _ = made._pools
        self.written, self.packets, self.replies = pool._memory, deque[tuple[int, int]](maxlen=8), 0
        pool._memory = Stores(self.written, self.go_on)  # type: ignore[assignment]
        pool._serials = Stores(pool._serials, self.go_on)  # type: ignore[assignment]

    def go_on(self) -> None:
        """Fails if a packet gets a version that had been removed when the packet arrived."""
        for slot, removed in self.packets:
            for version in self.possible(slot):
                assert version > removed
                self.replies += 1

    def possible(self, first: int) -> list[int]:
        """Returns the versions with which the program may reply if it has found the slot `first`."""
        head = self.head(first)
        order = head["order"][: head["rotations"]] if head["rotations"] > 1 else [first]
        heads = [(slot, self.head(slot)) for slot in order] if self.is_valid(head) else []
        replies = [slot * SMALL_SIZE + TAIL_AT for slot, head in heads if self.is_valid(head)]
        return [int.from_bytes(self.written[at : at + 4], "little") for at in replies]

    def head(self, slot: int) -> dict[str, Any]:
        """Returns the fields of a slot that the program looks at."""
        at = slot * SMALL_SIZE
        serial, key_len, rotations = (
            self.written[at + HEAD_FIELDS[name]] for name in ("serial", "key_len", "rotations")
        )
        order = unpack_from(f"<{2 * TTLS + 2}x{ROTATIONS}H", self.written, at + SMALL_SIZE - OFFSETS_SIZE)
        key = self.written[at + KEY_AT : at + KEY_AT + key_len]
        return {"serial": serial, "rotations": rotations, "order": order, "key": key}

    def is_valid(self, head: dict[str, Any]) -> bool:
        """Returns True if the slot is not being written, and has KEY."""
        return bool(head["serial"] % 2 == 0 and head["key"] == KEY)


def test_no_packet_gets_an_old_reply_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are used again at once here. A server lets them rest, but the kernel does not promise a time."""
    monkeypatch.setattr(memory_module, "REST", 0.0)
    random, hit_counter = Random(4), counter()
    with memory(Clock(), 4) as (found, _):
        paused = PausedPackets(found)
        for version in range(1, 3000):
            placed = found.put(KEY, [version.to_bytes(4, "little") * 15] * random.choice([1, 2, 3]), TABLE, hit_counter)
            assert placed is not None
            paused.packets.append((placed.slots[0], version - 1))
            found.remove(placed)
            if random.random() < 0.5:
                other = found.put(b"other key", [REPLY], TABLE, hit_counter)
                assert other is not None
                found.remove(other)
    assert paused.replies > 3000


def test_the_first_slot_of_an_entry_is_written_last() -> None:
    with memory(Clock()) as (found, _):
        pool, _ = found._pools
        written, states = pool._memory, list[bytes]()
        pool._memory = Stores(  # type: ignore[assignment]
            written, lambda: states.append(bytes(written[slot * SMALL_SIZE + TAIL_AT] for slot in range(SLOTS)))
        )
        placed = found.put(KEY, [b"\1" * 60] * 3, TABLE, counter())
    assert placed is not None
    before_each_store = [[state[slot] for slot in placed.slots] for state in states]
    assert before_each_store == [[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]]  # the last store is that of `order`


def test_two_keys_with_the_same_tag_do_not_share_a_set() -> None:
    """The program looks only at the first word with the tag of a key, so the second key is refused."""
    clock, seen = Clock(), dict[tuple[int, int], bytes]()
    with memory(clock) as (found, program):
        for number in range(1 << 20):
            key = b"key %d" % number
            digest = key_hash(key, found.seed, TABLE)
            first = seen.setdefault((digest & SETS - 1, key_tag(digest)), key)
            if first != key:
                break
        placed = found.put(first, (REPLY,), TABLE, counter())
        assert placed is not None
        assert found.put(key, (REPLY,), TABLE, counter()) is None
        assert (program.replies(first, TABLE, clock()), program.replies(key, TABLE, clock())) == ([REPLY], [])
        found.remove(placed)
        assert found.put(key, (REPLY,), TABLE, counter()) is not None


def test_packets_that_are_passed_on_are_counted_by_reason() -> None:
    clock = Clock()
    with memory(clock) as (found, program):
        found.put(b"key", (REPLY,), TABLE, counter(), until=int((clock() + 1) * 1e9))
        program.replies(b"other", TABLE, clock(), count=True)
        clock.turn(2)
        program.replies(b"key", TABLE, clock(), count=True)
        found.stop()
        program.replies(b"key", TABLE, clock(), count=True)
        counts = found.counters()
        assert (counts["unknown"], counts["expired"], counts["stale"], counts["torn"]) == (1, 1, 1, 0)


def test_unused_entries_are_found() -> None:
    """An entry counts as used until the second look after its last use."""
    clock = Clock()
    with memory(clock) as (found, program):
        first, second = (found.put(key, (REPLY,), TABLE, counter()) for key in (b"first", b"second"))
        assert [one for one in found.unused(is_large=False) if one] == []
        program.replies(b"second", TABLE, clock(), count=True)
        list(found.take_uses())
        assert [one for one in found.unused(is_large=False) if one] == [first]
        assert {one.key for one in found.unused(is_large=False) if one} == {b"first", b"second"}
        assert second is not None


@contextmanager
def few_numbers() -> Iterator[None]:
    """Leaves two numbers for hit counters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hit_numbers, "HIT_COUNTERS", UNNUMBERED + 3)
        yield


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 7), st.integers(0, 4)),
        st.tuples(st.just("query"), st.integers(0, 7), st.integers(1, 3)),
        st.tuples(st.sampled_from(["remove", "clear", "time", "hits", "uses"]), st.integers(0, 7), st.just(0)),
    ),
    min_size=10,
    max_size=60,
)


@given(steps=STEPS)
@settings(max_examples=50)
def test_every_reply_is_counted_once(steps: list[tuple[str, int, int]]) -> None:
    """There are numbers for two of five hit counters only."""
    clock, hit_counters = Clock(), [counter() for _ in range(5)]
    sent: Counter[HitCounter] = Counter()
    counted: Counter[HitCounter] = Counter()
    placed: dict[bytes, Placed] = {}
    with few_numbers(), memory(clock) as (found, program):

        def take_uses() -> None:
            for uses in found.take_uses():
                counted.update({one.hit_counter: 0 for one, _ in uses})
                for one, number in uses:
                    counted[one.hit_counter] += number if one.number == UNNUMBERED else 0

        for step, number, more in steps:
            key = b"%d" % number
            if step == "put" and key not in placed:
                made = found.put(key, (REPLY,), TABLE, hit_counters[more])
                if made is not None:
                    placed[key] = made
            elif step == "query":
                for _ in range(more):
                    if program.replies(key, TABLE, clock(), count=True):
                        sent[placed[key].hit_counter] += 1
            elif step == "remove" and key in placed:
                found.remove(placed.pop(key))
            elif step == "clear":
                found.remove_all(list(placed.values()))
                placed.clear()
            elif step == "time":
                clock.turn(0.6)
            elif step == "hits":
                counted.update({one: hits for one, _, hits in found.take_hits()})
            elif step == "uses" and found.counts_uses:
                take_uses()
        counted.update({one: hits for one, _, hits in found.take_hits()})
        if found.counts_uses:
            take_uses()
        assert +counted == +sent
        found.remove_all(list(placed.values()))
        clock.turn(COUNTER_REST + 0.1)
        take_uses()
        list(found.take_hits())
        assert found._numbers.free == 2
        assert found.room(is_large=False) == (SLOTS, SLOTS)
