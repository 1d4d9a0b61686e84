"""The answer table: what it stores, finds and invalidates, and the bound of its memory."""

from __future__ import annotations

import tracemalloc
from time import process_time
from typing import Any

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.chain.routing import DROPPED
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.reply import Reply
from svcdns.serving import answer_table
from svcdns.serving.answer_table import (
    ENTRY_COST,
    FILTER_SHARE,
    MAX_DROPPED_AT_ONCE,
    MAX_FEW,
    AnswerTable,
    Countdown,
    Details,
    Entry,
)
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.wire.message import encode_reply
from svcdns.wire.request import Request, accept
from svcdns.wire.ttl import ttl_offsets
from tests.support.world import Clock, records

FOREVER = float("inf")


def entry(key: bytes, *dependencies: Dependency, deadline: float = FOREVER, wire: bytes = b"reply") -> Entry:
    """Returns an entry of the answer table. `wire` is its encoded reply."""
    return Entry(key, wire, deadline, dependencies, HitCounter((), Origin(DROPPED)))


def dependents(table: AnswerTable, *dependency: str) -> set[bytes] | None:
    """Returns the keys that the index has for a dependency, or None if there are too many for the index."""
    found = table._dependents.get(dependency, ())
    keys = answer_table._keys(found) if found else ()
    return None if keys is None else set(keys)


def table(budget: int = 1 << 20, clock: Clock | None = None) -> AnswerTable:
    return AnswerTable(budget, clock or Clock())


def test_invalidate_removes_only_entries_with_the_dependency() -> None:
    found = table()
    found.put(entry(b"1", ("service", "n", "a"), ("namespace", "n")))
    found.put(entry(b"2", ("service", "n", "b"), ("namespace", "n")))
    found.invalidate([("service", "n", "a")])
    assert set(found.current) == {b"2"}
    found.invalidate([("namespace", "n")])
    assert not found.current


def test_every_invalidation_increments_changes() -> None:
    """A reply that is computed during an invalidation must not be stored afterwards."""
    found = table()
    before = found.changes
    found.invalidate([("x",)])
    found.clear()
    assert found.changes == before + 2


def test_entries_of_the_previous_generation_are_found_and_invalidated() -> None:
    """An entry of the previous generation moves to the current generation when it is used."""
    found = table(budget=8 * (ENTRY_COST + 50))
    found.put(entry(b"asked", ("o",)))
    for number in range(4):
        found.put(entry(b"%d" % number))
    assert b"asked" not in found.current
    assert found.find(b"asked", 0) is not None
    assert b"asked" in found.current
    found.invalidate([("o",)])
    assert found.find(b"asked", 0) is None
    assert b"asked" not in found.current


def test_a_deadline_holds_in_the_previous_generation() -> None:
    found = table(budget=6 * (ENTRY_COST + 50))
    found.put(entry(b"timed", ("o",), deadline=5.0))
    for number in range(4):
        found.put(entry(b"%d" % number))
    assert found.find(b"timed", 6.0) is None


STEPS: st.SearchStrategy[tuple[str, int, Any]] = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 9), st.sets(st.integers(0, 4))),
    st.tuples(st.just("invalidate"), st.just(0), st.sets(st.integers(0, 4))),
    st.tuples(st.just("find"), st.integers(0, 9), st.just(frozenset())),
    st.tuples(st.sampled_from(["clear", "allow", "purge"]), st.just(0), st.just(frozenset())),
)


@pytest.mark.parametrize("at_once", [0, 2, 64], ids=["all hidden", "some hidden", "all dropped"])
@pytest.mark.parametrize("entries", [6, 10, 1000])
@given(steps=st.lists(STEPS, max_size=60))
def test_no_invalid_entry_is_found(at_once: int, entries: int, steps: list[tuple[str, int, Any]]) -> None:
    """After any sequence of steps, the index and the used budget are correct, too."""
    found = table(budget=entries * (ENTRY_COST + 60))
    alive: dict[bytes, Entry] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_table, "MAX_DROPPED_AT_ONCE", at_once)
        for step, number, dependencies in steps:
            key = b"%d" % number
            if step == "put":
                alive[key] = entry(key, *((str(one),) for one in dependencies))
                found.put(alive[key])
            elif step == "invalidate":
                gone = {(str(one),) for one in dependencies}
                found.invalidate(gone)
                alive = {key: one for key, one in alive.items() if gone.isdisjoint(one.dependencies)}
            elif step == "clear":
                found.clear()
                alive = {}
            elif step == "allow":
                found.allow(found.budget)
            elif step == "purge":
                list(found.purge())
            else:
                assert found.find(key, 0) in (None, alive.get(key))
            assert all(alive.get(key) is one for key, one in found.current.items())
    for key in [b"%d" % number for number in range(10)]:
        assert found.find(key, 0) in (None, alive.get(key))
    everything = {**found.current, **{key: one for generation in found.previous for key, one in generation.items()}}
    assert found.used == sum(one.cost for one in everything.values()) <= found.budget
    for key, one in found.current.items():
        for dependency in one.dependencies:
            keys = dependents(found, *dependency)
            assert keys is None or key in keys
    found.clear()
    list(found.purge())
    assert not found._dependents
    assert found.used == 0


def test_dropping_many_entries_keeps_entries_without_the_dependency() -> None:
    found = table()
    for number in range(2 * MAX_DROPPED_AT_ONCE):
        found.put(entry(b"a%d" % number, ("a",)))
        found.put(entry(b"b%d" % number, ("b",)))
    found.put(entry(b"other", ("c",)))
    found.invalidate([("a",)])
    found.put(entry(b"a0", ("a",)))
    found.invalidate([("b",)])
    assert found.find(b"other", 0) is not None
    assert [found.find(key, 0) for key in (b"a1", b"b0", b"b1")] == [None, None, None]


@pytest.mark.parametrize("step", ["invalidate", "clear", "allow"])
def test_an_invalidation_takes_less_time_than_removing_the_entries(step: str) -> None:
    """Invalid entries are removed later, in several steps."""
    found = table(1 << 30)
    for number in range(20_000):
        found.put(
            entry(b"\1\0\0\1\0\0\0\0\0\0\x06%06d\x03svc" % number, ("namespace", "d"), ("service", "d", str(number)))
        )
    began = process_time()
    if step == "invalidate":
        found.invalidate({("namespace", "d")})
    elif step == "clear":
        found.clear()
    else:
        found.allow(0)
    took = process_time() - began
    longest, began = 0.0, process_time()
    for _ in found.purge():
        longest = max(longest, process_time() - began)
        began = process_time()
    assert took < 0.002
    assert longest < 0.005
    assert found.find(b"\1\0\0\1\0\0\0\0\0\0\x06000001\x03svc", 0) is None


def test_memory_is_bounded_by_the_budget() -> None:
    """The computed cost of an entry is close to its memory use."""
    budget = 2 << 20
    tracemalloc.start()
    try:
        found = table(budget)
        for number in range(20_000):
            key = b"%060d" % number
            found.seen_before(key)
            found.put(entry(key, ("service", "ns", f"name-{number}"), wire=bytes(100)))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * budget < used < 1.6 * budget
    assert found.used <= budget


def test_the_seen_filter_is_part_of_the_budget() -> None:
    """Entries may use the part of the budget that the seen filter leaves."""
    found = table(80_000)
    found.seen_before(b"a")
    taken = found.used
    assert 0 < taken <= 80_000 // FILTER_SHARE
    for number in range(1000):
        found.put(entry(b"%d" % number))
        assert found.used <= 80_000
    found.allow(8_000)
    assert found.used <= 8_000


def test_a_removed_entry_frees_its_part_of_the_budget() -> None:
    found = table()
    found.put(entry(b"other", ("other",)))
    for _ in range(2500):
        found.put(entry(b"changing", ("endpoints",), wire=bytes(60)))
        found.invalidate([("endpoints",)])
    assert b"other" in found.current
    assert found.used == found.current[b"other"].cost


def test_ttls_are_lowered_when_an_entry_is_used() -> None:
    """A stored TTL goes down by one each second. An unused entry causes no work."""
    found = table()
    request = accept(dns.message.make_query("a.b.", "A").to_wire())
    assert isinstance(request, Request)
    wire = encode_reply(request, Reply(answer=records("a.b. 10 IN A 192.0.2.1")), 512)
    details = Details(countdown=Countdown((tuple(at - 2 for at in ttl_offsets(wire)),), 9.5))
    made = Entry(b"k", wire[2:], 0.5, (), HitCounter((), Origin(DROPPED)), details)
    found.put(made)

    def shown(now: float) -> tuple[int, float] | None:
        """Returns the TTL in the reply, and the time when the TTL goes down next."""
        entry = found.find(b"k", now)
        return (
            None
            if entry is None
            else (dns.message.from_wire(wire[:2] + found.use(entry)).answer[0].ttl, entry.deadline)
        )

    assert [shown(now) for now in (0.0, 0.5, 1.4, 4.6, 9.4)] == [(10, 0.5), (9, 1.5), (9, 1.5), (5, 5.5), (1, 9.5)]
    assert shown(9.5) is None
    assert len(found) == 0


def test_a_smaller_budget_removes_entries_immediately() -> None:
    found = table(budget=100 * (ENTRY_COST + 50))
    for number in range(40):
        found.put(entry(b"%d" % number, ("o",)))
    found.allow(10 * (ENTRY_COST + 50))
    assert len(found) == 0
    found.put(entry(b"new", ("o",)))
    found.invalidate([("o",)])
    assert len(found) == 0


def test_retired_entries_are_freed_in_steps() -> None:
    """A retired entry is no longer found, but is still in memory."""
    found = table(budget=1000 * (ENTRY_COST + 50))
    for number in range(900):
        found.put(entry(b"%d" % number, (f"{number}",)))
    found.allow(20 * (ENTRY_COST + 50))
    steps = found.purge()
    next(steps)
    assert len(found) == 0
    assert len(found._dependents) > 800
    found.put(entry(b"new", ("n",)))
    assert sum(1 for _ in steps) > 90
    assert dependents(found, "n") == {b"new"}
    assert list(found._dependents) == [("n",)]
    assert found.find(b"new", 0) is not None
    assert not found._retired


def test_each_new_entry_frees_some_retired_entries() -> None:
    found = table(budget=1000 * (ENTRY_COST + 50))
    for number in range(900):
        found.put(entry(b"%d" % number, (f"{number}",)))
    found.allow(250 * (ENTRY_COST + 50))
    assert len(found) == 0
    for number in range(120):
        found.put(entry(b"new %d" % number))
    assert not found._dependents
    assert len(found) == 120


def test_an_entry_with_the_key_of_a_retired_one_is_still_invalidated() -> None:
    found = table(budget=4 * (ENTRY_COST + 50))
    found.put(entry(b"same", ("o",)))
    while b"same" in found.current or any(b"same" in generation for generation in found.previous):
        found.put(entry(b"%d" % len(found.current)))
    assert b"same" in found._retired[0]
    found.put(entry(b"same", ("o",)))
    found.put(entry(b"other"))
    found.invalidate([("o",)])
    assert found.find(b"same", 0) is None


def test_entries_share_equal_dependencies() -> None:
    found = table()

    def put(number: int, service: str) -> Entry:
        made = entry(b"%d" % number, ("namespace", str(b"ns", "ascii")), ("service", str(b"ns", "ascii"), service))
        found.put(made)
        return made

    first, second = put(1, "a"), put(2, "a")
    assert first.dependencies is second.dependencies
    for number in range(3, 3 + 2 * MAX_FEW):
        put(number, f"s{number}")
    one, other = put(100, "x"), put(101, "y")
    assert one.dependencies[0] is other.dependencies[0]
    assert one.dependencies[1][1] is other.dependencies[1][1]


@pytest.mark.parametrize("count", [1, 2, MAX_FEW, MAX_FEW + 1, MAX_DROPPED_AT_ONCE, MAX_DROPPED_AT_ONCE + 1])
def test_a_dependency_may_have_any_number_of_entries(count: int) -> None:
    found = table()
    keys = {b"%d" % number for number in range(count)}
    for key in keys:
        found.put(entry(key, ("o",)))
    found.put(entry(b"other", ("p",)))
    assert dependents(found, "o") == (keys if count <= MAX_DROPPED_AT_ONCE else None)
    for key in list(keys)[1::2]:
        found.drop(key)
    assert dependents(found, "o") == (set(found.current) - {b"other"} if count <= MAX_DROPPED_AT_ONCE else None)
    found.invalidate([("o",)])
    assert [key for key in keys if found.find(key, 0)] == []
    assert found.find(b"other", 0) is not None
    assert dependents(found, "o") == set()


def test_entries_of_about_the_same_time_share_a_deadline() -> None:
    clock = Clock(100.0)
    found = table(clock=clock)
    first = found.deadline(30.0)
    clock.turn(0.4)
    assert found.deadline(30.0) is first == 130.0
    clock.turn(0.2)
    assert found.deadline(30.0) == pytest.approx(130.6)
