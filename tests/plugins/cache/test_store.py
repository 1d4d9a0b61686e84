"""What `cache` keeps."""

from __future__ import annotations

import pytest

from svcdns.plugins.cache.store import Item, Key, Store, capacity
from svcdns.wire.reply import Reply


def key(number: int) -> Key:
    """A key for each number."""
    return (b"%d" % number, 1, 1, False, False)


@pytest.mark.parametrize(("asked", "held"), [(1, 1024), (1024, 1024), (9984, 9984), (10000, 9984)])
def test_capacity(asked: int, held: int) -> None:
    """256 shards of at least four."""
    assert capacity(asked) == held


def test_the_least_recently_used_makes_room() -> None:
    """And is counted."""
    evicted: list[int] = []
    store = Store(1, lambda: evicted.append(1))
    for number in range(1024):
        store.put(key(number), Item(Reply(), 0.0, 5))
    assert store.get(key(0)) is not None
    store.put(key(2000), Item(Reply(), 0.0, 5))
    assert len(evicted) == 1
    assert store.get(key(0)) is not None
    assert store.get(key(1)) is None


def test_shrinks_to_a_part_of_its_size() -> None:
    """One entry at a time, the least recently used first, and keeps to it; then it may have all again."""
    evicted: list[int] = []
    store = Store(1, lambda: evicted.append(1))
    for number in range(1024):
        store.put(key(number), Item(Reply(owners=((f"{number}",),)), 0.0, 5))
    assert sum(1 for _ in store.shrink(0.5)) == len(evicted) == len(store) == len(store._owned) == 512
    store.put(key(2000), Item(Reply(), 0.0, 5))
    assert len(store) == 512
    assert store.get(key(513)) is not None
    assert store.get(key(512)) is None
    assert list(store.shrink(1.0)) == []
    for number in range(1024):
        store.put(key(number), Item(Reply(), 0.0, 5))
    assert len(store) == 1024


def test_forgets_by_owner() -> None:
    """What rests on a fact goes when the fact changes; an entry that made room is no trouble."""
    store = Store(1, lambda: None)
    store.put(key(1), Item(Reply(owners=(("service", "d", "a"), ("x",))), 0.0, 5))
    store.put(key(2), Item(Reply(owners=(("service", "d", "b"),)), 0.0, 5))
    store.forget([("service", "d", "a")])
    assert store.get(key(1)) is None
    assert store.get(key(2)) is not None
    store.pop(key(2))
    assert store._owned == {}


def test_time_that_is_left_is_in_whole_seconds() -> None:
    """As every TTL is."""
    item = Item(Reply(), 100.0, 5)
    assert [item.remaining(now) for now in (100.0, 100.9, 101.0, 104.9, 105.0)] == [5, 5, 4, 1, 0]
