"""The stores of *cache*."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugin_api.fast_path import Key
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.cache.entry import Entry
from svcdns.plugins.cache.memory import LARGEST, PER_ENTRY, MemoryBudget
from svcdns.plugins.cache.store import MAX_EVICTIONS, Store, capacity
from svcdns.wire.record import Record


def key(number: int) -> Key:
    return (b"%d" % number, 1, 1, False, False)


@pytest.mark.parametrize(("size", "entries"), [(1, 1024), (1024, 1024), (9984, 9984), (10000, 9984)])
def test_capacity(size: int, entries: int) -> None:
    """The capacity is rounded up to 256 shards with at least four entries in each shard."""
    assert capacity(size) == entries


def test_the_oldest_entry_without_a_hit_is_evicted() -> None:
    evicted: list[int] = []
    store = Store(1, MemoryBudget(lambda: 1 << 30), lambda: evicted.append(1))
    for number in range(1024):
        store.put(key(number), Entry(Reply(), 0.0, 5))
    assert store.get(key(0)) is not None
    store.put(key(2000), Entry(Reply(), 0.0, 5))
    assert len(evicted) == 1
    assert store.get(key(0)) is not None
    assert store.get(key(1)) is None


def test_a_flood_of_names_leaves_reused_entries() -> None:
    """New names evict at most a quarter of the entries that have had a hit."""
    store = Store(1, MemoryBudget(lambda: 1 << 30), lambda: None)
    for number in range(1024):
        store.put(key(number), Entry(Reply(), 0.0, 5))
        assert store.get(key(number)) is not None
    for number in range(10_000, 20_000):
        store.put(key(number), Entry(Reply(), 0.0, 5))
    left = [number for number in range(1024) if key(number) in store.entries]
    assert left == list(range(1024 - len(left), 1024))
    assert len(left) == 1024 * 3 // 4
    assert len(store) == 1024


def test_the_least_recently_used_entry_is_evicted() -> None:
    store = Store(1, MemoryBudget(lambda: 1 << 30), lambda: None)
    for number in range(1024):
        store.put(key(number), Entry(Reply(), 0.0, 5))
        store.get(key(number))
    store.get(key(0))
    store.put(key(2000), Entry(Reply(), 0.0, 5))
    assert key(0) in store.entries
    assert key(1) not in store.entries


def test_shrinks_to_a_part_of_its_size() -> None:
    """`shrink` evicts the least recently used entries one by one. The store stays small until it may grow."""
    evicted: list[int] = []
    store = Store(1, MemoryBudget(lambda: 1 << 30), lambda: evicted.append(1))
    for number in range(1024):
        store.put(key(number), Entry(Reply(dependencies=((f"{number}",),)), 0.0, 5))
    assert sum(1 for _ in store.shrink(0.5)) == len(evicted) == len(store) == len(store._dependents) == 512
    store.put(key(2000), Entry(Reply(), 0.0, 5))
    assert len(store) == 512
    assert store.get(key(513)) is not None
    assert store.get(key(512)) is None
    assert list(store.shrink(1.0)) == []
    for number in range(1024):
        store.put(key(number), Entry(Reply(), 0.0, 5))
    assert len(store) == 1024


def test_invalidates_by_dependency() -> None:
    """The index of dependencies has no removed entries."""
    store = Store(1, MemoryBudget(lambda: 1 << 30), lambda: None)
    store.put(key(1), Entry(Reply(dependencies=(("service", "d", "a"), ("x",))), 0.0, 5))
    store.put(key(2), Entry(Reply(dependencies=(("service", "d", "b"),)), 0.0, 5))
    store.invalidate([("service", "d", "a")])
    assert store.get(key(1)) is None
    assert store.get(key(2)) is not None
    store.remove(key(2))
    assert store._dependents == {}


def text(octets: int) -> Reply:
    """Returns a reply with one record of this size."""
    return Reply(answer=(Record(b"\1a\0", 16, 60, bytes(octets)),))


def test_a_flood_of_large_answers_does_not_grow_the_store() -> None:
    """Large answers reduce the number of entries. Later, small answers may use all entries again."""
    store = Store(1, MemoryBudget(lambda: 1 << 30), lambda: None)
    for number in range(3000):
        store.put(key(number), Entry(text(40_000), 0.0, 5))
        assert store.octets <= 1024 * PER_ENTRY
    assert 40 < len(store) < 53
    assert store.get(key(2999)) is not None
    for number in range(3000):
        store.put(key(number), Entry(text(10), 0.0, 5))
    assert len(store) == 1024


def test_a_very_large_reply_is_not_stored() -> None:
    store = Store(1, MemoryBudget(lambda: 1 << 30), lambda: None)
    store.put(key(1), Entry(text(10), 0.0, 5))
    store.put(key(1), Entry(text(LARGEST), 0.0, 5))
    assert (len(store), store.octets) == (0, 0)


def test_the_limit_applies_to_the_sum_of_all_stores() -> None:
    """The largest store evicts entries. Even with a limit of 0, one entry stays."""
    allowance = 100_000
    budget = MemoryBudget(lambda: allowance)
    large, small = Store(9984, budget, lambda: None), Store(1, budget, lambda: None)
    for number in range(10):
        small.put(key(number), Entry(text(10), 0.0, 5))
    for number in range(1000):
        large.put(key(number), Entry(text(1000), 0.0, 5))
        assert large.octets + small.octets <= allowance
    assert len(small) == 10
    small.put(key(11), Entry(text(10), 0.0, 5))
    assert large.octets + small.octets <= allowance
    allowance = 0
    assert sum(1 for _ in large.shrink(1.0)) > 10
    large.put(key(1), Entry(text(10), 0.0, 5))
    assert (len(large), len(small)) == (1, 0)
    large.stop()
    assert budget.stores == [small]


def test_another_size() -> None:
    """A smaller size is reached in steps, because each step evicts a bounded number of entries."""
    store = Store(9984, MemoryBudget(lambda: 1 << 30), lambda: None)
    for number in range(9984):
        store.put(key(number), Entry(Reply(), 0.0, 5))
    store.resize(1)
    assert len(store) == 9984
    store.trim()
    assert len(store) == 9984 - MAX_EVICTIONS
    for number in range(10_000, 10_000 + 9984 // MAX_EVICTIONS):
        store.put(key(number), Entry(Reply(), 0.0, 5))
    assert len(store) == 1024
    store.resize(9984)
    for number in range(9984):
        store.put(key(number), Entry(Reply(), 0.0, 5))
    assert len(store) == 9984


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60_000), st.booleans()), max_size=60))
def test_the_size_of_a_store_is_the_sum_of_its_entries(steps: list[tuple[int, int, bool]]) -> None:
    store = Store(1, MemoryBudget(lambda: 1 << 20), lambda: None)
    for number, octets, forgotten in steps:
        dependencies = ((f"{number % 3}",),)
        reply = Reply(answer=text(octets).answer, dependencies=dependencies)
        if forgotten:
            store.invalidate(dependencies)
        else:
            store.put(key(number), Entry(reply, 0.0, 5, last_answer=Entry(reply, 0.0, 5) if number % 2 else None))
        assert store.octets == sum(entry.octets for entry in store.entries.values()) <= 1 << 20
