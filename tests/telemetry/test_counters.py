"""Counters in shared memory, which stay when their process ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.process.shared_memory import REGION_SIZE, REGIONS, State, create, heartbeat, regions, reset, state
from svcdns.telemetry.counters import CELLS, OVERFLOW_CELLS, Counters, Family, MetricKind, samples

ASKED = Family("asked_total", MetricKind.COUNTER, "Questions.", ("zone",))
TOOK = Family("took_seconds", MetricKind.HISTOGRAM, "Seconds.", (), (0.1, 1.0))


def region() -> memoryview:
    """Returns memory for the counters of one process."""
    return memoryview(bytearray(REGION_SIZE))


def test_a_successor_continues_the_counters() -> None:
    """New counters on the same memory begin with the values of the process that ended."""
    shared = region()
    first = Counters(shared)
    first.count(ASKED, "a.", amount=3)
    second = Counters(shared)
    assert second.cell(ASKED, "a.") == first.cell(ASKED, "a.")
    second.count(ASKED, "a.")
    second.count(ASKED, "b.")
    assert [(s.values, s.cells) for s in samples(shared)] == [(("a.",), (4.0,)), (("b.",), (1.0,))]


def test_an_observation_counts_in_its_bucket() -> None:
    """A value that equals a bound is in the bucket of this bound. Larger values than all bounds are in +Inf."""
    counters = Counters(shared := region())
    for value in (0.05, 0.1, 0.5, 7.0):
        counters.observe(TOOK, counters.cell(TOOK), value)
    assert next(samples(shared)).cells == (2.0, 1.0, 1.0, pytest.approx(7.65))


@given(st.lists(st.tuples(st.text(max_size=10), st.integers(1, 5)), max_size=40))
def test_counts_are_exact_for_any_label_values(counts: list[tuple[str, int]]) -> None:
    counters = Counters(shared := region())
    expected: dict[str, int] = {}
    for label, amount in counts:
        counters.count(ASKED, label, amount=amount)
        expected[label] = expected.get(label, 0) + amount
    assert {sample.values[0]: sample.cells[0] for sample in samples(shared)} == expected


def test_series_without_room_are_not_counted() -> None:
    """If the memory for counters is full, the existing series still work."""
    counters = Counters(shared := region())
    wide = Family("wide", MetricKind.HISTOGRAM, "", ("n",), tuple(float(n) for n in range(OVERFLOW_CELLS - 2)))
    room = (CELLS - OVERFLOW_CELLS) // wide.width
    for number in range(room):
        counters.observe(wide, counters.cell(wide, str(number)), 1.0)
    assert counters.overflowed == 0
    counters.observe(wide, counters.cell(wide, "one more"), 1.0)
    counters.observe(wide, counters.cell(wide, "one more"), 1e9)
    assert counters.overflowed == 1
    found = list(samples(shared))
    assert len(found) == room
    assert {sum(sample.cells[:-1]) for sample in found} == {1.0}


def test_a_full_directory() -> None:
    """The series for which there is no room are counted in `overflowed`."""
    counters = Counters(shared := region())
    for number in range(8):
        counters.count(ASKED, f"{number}" * (1 << 18))
    assert 0 < counters.overflowed < 8
    assert len(list(samples(shared))) == 8 - counters.overflowed


def test_a_wrong_number_of_label_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="has labels"):
        Counters(region()).cell(ASKED)


def test_heartbeat_and_state() -> None:
    """Other processes can read the heartbeat and the state from the shared memory."""
    shared = regions(create())
    assert len(shared) == REGIONS
    counters = Counters(shared[3])
    counters.heartbeat(12.5)
    counters.state(State.SERVING)
    assert (heartbeat(shared[3]), state(shared[3])) == (12.5, State.SERVING)
    assert heartbeat(shared[2]) == 0
    reset(shared[3], State.STARTING)
    assert (heartbeat(shared[3]), state(shared[3])) == (0, State.STARTING)
