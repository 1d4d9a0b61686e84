"""The answer table: what goes in, what comes out, what is dropped, and that it is bounded."""

from __future__ import annotations

import tracemalloc

import dns.message
from hypothesis import given
from hypothesis import strategies as st

from svcdns.chain.routing import DROPPED
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.reply import Reply
from svcdns.serving.answer_table import ENTRY_COST, AnswerTable, Countdown, Entry
from svcdns.serving.metrics import HitCounter
from svcdns.wire.message import encode_reply
from svcdns.wire.request import Request, accept
from svcdns.wire.ttl import ttl_offsets
from tests.support.world import Clock, records

FOREVER = float("inf")


def entry(key: bytes, *dependencies: Dependency, deadline: float = FOREVER, wire: bytes = b"reply") -> Entry:
    """A compiled reply."""
    return Entry(key, (wire,), deadline, dependencies, HitCounter((), DROPPED))


def table(budget: int = 1 << 20, clock: Clock | None = None) -> AnswerTable:
    """A table."""
    return AnswerTable(budget, clock or Clock())


def test_a_key_counts_from_its_second_sighting() -> None:
    """Names asked once cost no entry."""
    found = table()
    assert [found.sighted(b"a"), found.sighted(b"a"), found.sighted(b"b")] == [False, True, False]


def test_keys_that_share_their_place_are_all_sighted() -> None:
    """Asked in turn, none pushes another out for ever."""
    found = table(10**6)
    keys = [b"%d" % number for number in range(50_000)]
    found.sighted(b"")
    assert sum(found.sighted(key) for key in keys) < 2_000
    for _ in range(4):
        unknown = sum(not found.sighted(key) for key in keys)
    assert unknown < 20


def test_a_touched_owner_takes_its_entries_out() -> None:
    """Those that rest on it, and no others."""
    found = table()
    found.put(entry(b"1", ("service", "n", "a"), ("namespace", "n")))
    found.put(entry(b"2", ("service", "n", "b"), ("namespace", "n")))
    found.invalidate([("service", "n", "a")])
    assert set(found.young) == {b"2"}
    found.invalidate([("namespace", "n")])
    assert not found.young


def test_every_forgetting_is_a_change() -> None:
    """So that a reply asked for before is not stored after."""
    found = table()
    before = found.changes
    found.invalidate([("x",)])
    found.clear()
    assert found.changes == before + 2


def test_old_entries_are_found_again_and_still_forgotten() -> None:
    """A generation change loses nothing that is asked again."""
    found = table(budget=8 * (ENTRY_COST + 50))
    found.put(entry(b"keep", ("o",)))
    for number in range(4):
        found.put(entry(b"%d" % number))
    assert b"keep" not in found.young
    assert found.find(b"keep", 0) is not None
    assert b"keep" in found.young
    found.invalidate([("o",)])
    assert found.find(b"keep", 0) is None
    assert b"keep" not in found.young


def test_an_old_entry_past_its_deadline_is_gone() -> None:
    """Time counts in both generations."""
    found = table(budget=6 * (ENTRY_COST + 50))
    found.put(entry(b"timed", ("o",), deadline=5.0))
    for number in range(4):
        found.put(entry(b"%d" % number))
    assert found.find(b"timed", 6.0) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.sets(st.integers(0, 4)), st.booleans()), max_size=60))
def test_nothing_forgotten_is_ever_found(steps: list[tuple[int, set[int], bool]]) -> None:
    """In any order of putting, forgetting and ageing, what is found rests on nothing touched since it was put."""
    found = table(budget=10 * (ENTRY_COST + 60))
    alive: dict[bytes, set[int]] = {}
    for number, dependencies, put in steps:
        key = b"%d" % number
        if put:
            found.put(entry(key, *((str(owner),) for owner in dependencies)))
            alive[key] = dependencies
        else:
            found.invalidate([(str(owner),) for owner in dependencies])
            alive = {k: o for k, o in alive.items() if not o & dependencies}
        assert set(found.young) | set(found.old) <= set(alive)


def test_memory_is_bounded_by_the_budget() -> None:
    """A flood of names cannot take more than what was allowed; the cost charged is close to what an entry takes."""
    budget = 2 << 20
    found = table(budget)
    tracemalloc.start()
    try:
        for number in range(20_000):
            key = b"%060d" % number
            found.put(entry(key, ("service", "ns", f"name-{number}"), wire=bytes(100)))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * budget < used < 1.6 * budget


def test_ttls_go_down_when_an_entry_is_asked_for_and_not_before() -> None:
    """Each whole second, until the reply is over."""
    found = table()
    request = accept(dns.message.make_query("a.b.", "A").to_wire())
    assert isinstance(request, Request)
    wire = encode_reply(request, Reply(answer=records("a.b. 10 IN A 192.0.2.1")), 512)
    made = Entry(b"k", (wire[2:],), 0.5, (), HitCounter((), DROPPED))
    made.countdown = Countdown((tuple(at - 2 for at in ttl_offsets(wire)),), 9.5)
    found.put(made)

    def shown(now: float) -> tuple[int, float] | None:
        """TTL and next step."""
        entry = found.find(b"k", now)
        return entry and (dns.message.from_wire(wire[:2] + found.use(entry)).answer[0].ttl, entry.deadline)

    assert [shown(now) for now in (0.0, 0.5, 1.4, 4.6, 9.4)] == [(10, 0.5), (9, 1.5), (9, 1.5), (5, 5.5), (1, 9.5)]
    assert shown(9.5) is None
    assert len(found) == 0


def test_a_smaller_budget_counts_at_once() -> None:
    """What is over it goes, and what is forgotten later is not missed."""
    found = table(budget=100 * (ENTRY_COST + 50))
    for number in range(40):
        found.put(entry(b"%d" % number, ("o",)))
    found.allow(10 * (ENTRY_COST + 50))
    assert len(found) == 0
    found.put(entry(b"new", ("o",)))
    found.invalidate([("o",)])
    assert len(found) == 0


def test_shrinking_goes_bit_by_bit() -> None:
    """A few entries at each step; what comes in meanwhile is kept, and nothing of what went is left in the owner index."""
    found = table(budget=1000 * (ENTRY_COST + 50))
    for number in range(900):
        found.put(entry(b"%d" % number, ("o",), (f"{number}",)))
    steps = found.shrink(20 * (ENTRY_COST + 50))
    next(steps)
    assert len(found) == 0
    assert len(found._owned[("o",)]) > 800
    found.put(entry(b"new", ("o",)))
    assert sum(1 for _ in steps) > 90
    assert found._owned == {("o",): {b"new"}}
    assert found.find(b"new", 0) is not None
    assert not found._dying


def test_generations_that_die_together_all_go() -> None:
    """Two at once, where a budget fell; then a few with each entry that comes."""
    found = table(budget=1000 * (ENTRY_COST + 50))
    for number in range(900):
        found.put(entry(b"%d" % number, (f"{number}",)))
    found.allow(300 * (ENTRY_COST + 50))
    assert len(found) == 0
    for number in range(120):
        found.put(entry(b"new %d" % number))
    assert not found._owned
    assert len(found) == 120


def test_an_entry_that_took_the_place_of_a_dying_one_is_still_forgotten() -> None:
    """The owner index loses the old entry, not the new one under the same key."""
    found = table(budget=4 * (ENTRY_COST + 50))
    found.put(entry(b"same", ("o",)))
    while b"same" in found.young or b"same" in found.old:
        found.put(entry(b"%d" % len(found.young)))
    assert b"same" in found._dying[0]
    found.put(entry(b"same", ("o",)))
    found.put(entry(b"other"))
    found.invalidate([("o",)])
    assert found.find(b"same", 0) is None
