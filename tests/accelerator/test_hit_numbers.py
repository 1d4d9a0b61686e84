"""The numbers of hit counters in the memory of the accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

import pytest

from svcdns.accelerator.hit_numbers import UNNUMBERED, HitNumbers
from svcdns.accelerator.layout import COUNT_SIZE, HIT_COUNTERS, HITS_AT
from svcdns.chain.routing import DROPPED
from svcdns.serving.metrics import HitCounter, Origin

CPUS = 3


def counter() -> HitCounter:
    return HitCounter((), Origin(DROPPED))


@pytest.fixture
def counts() -> Iterator[mmap]:
    with mmap(-1, CPUS * COUNT_SIZE) as made:
        yield made


def hit(counts: mmap, cpu: int, number: int, times: int = 1) -> None:
    """Counts hits as the program does."""
    at = cpu * COUNT_SIZE + HITS_AT + number * 8
    counts[at : at + 8] = (int.from_bytes(counts[at : at + 8], "little") + times).to_bytes(8, "little")


def test_hits_on_all_cpus_are_counted_once(counts: mmap) -> None:
    numbers, first, second = HitNumbers(counts, CPUS), counter(), counter()
    one, two = numbers.add_entry(first, 7), numbers.add_entry(second, 8)
    assert numbers.add_entry(first, 7) == one
    hit(counts, 0, one, 2)
    hit(counts, 2, one)
    hit(counts, 1, two, 300)
    assert set(numbers.take(0)) == {(first, 7, 3), (second, 8, 300)}
    assert set(numbers.take(0)) == set()
    hit(counts, 2, one)
    assert set(numbers.take(0)) == {(first, 7, 1)}


def test_a_number_is_used_again_when_its_entries_have_rested(counts: mmap) -> None:
    numbers, first = HitNumbers(counts, CPUS), counter()
    number = numbers.add_entry(first, 7)
    numbers.remove_entries(number, 1, 5.0)
    hit(counts, 0, number)
    assert set(numbers.take(4.0)) == {(first, 7, 1)}
    assert numbers.add_entry(first, 7) == number
    numbers.remove_entries(number, 1, 6.0)
    hit(counts, 0, number)
    assert set(numbers.take(6.5)) == {(first, 7, 1)}
    second = counter()
    assert numbers.add_entry(second, 8) == number
    hit(counts, 0, number)
    assert set(numbers.take(6.5)) == {(second, 8, 1)}


def test_more_hit_counters_than_numbers(counts: mmap) -> None:
    numbers = HitNumbers(counts, CPUS)
    given = [numbers.add_entry(counter(), 7) for _ in range(HIT_COUNTERS + 4)]
    assert len(set(given[: HIT_COUNTERS - 1])) == HIT_COUNTERS - 1
    assert set(given[HIT_COUNTERS - 1 :]) == {UNNUMBERED}
    assert numbers.entries[UNNUMBERED] == 5
    numbers.remove_all_entries(1.0)
    list(numbers.take(2.0))
    assert numbers.free == HIT_COUNTERS - 1
