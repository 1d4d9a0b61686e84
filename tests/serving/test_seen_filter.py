"""The seen filter (docs/glossary.md), which remembers approximately which keys were added before."""

from __future__ import annotations

import pytest

from svcdns.serving.seen_filter import FIRST_OCTETS, MAX_OCTETS, MIN_OCTETS, SeenFilter


def test_a_key_is_seen_before_at_the_second_time() -> None:
    seen = SeenFilter(MAX_OCTETS)
    assert [seen.seen_before(b"a"), seen.seen_before(b"a"), seen.seen_before(b"b")] == [False, True, False]


def test_nearly_all_keys_are_remembered() -> None:
    """Of 50,000 keys, many share their place in the filter."""
    seen = SeenFilter(MAX_OCTETS)
    keys = [b"%d" % number for number in range(50_000)]
    assert sum(map(seen.seen_before, keys)) < 2_000
    for _ in range(4):
        unknown = len(keys) - sum(map(seen.seen_before, keys))
    assert unknown < 100


@pytest.mark.parametrize(
    ("allowed", "first", "last"), [(0, MIN_OCTETS, MIN_OCTETS), (5000, 4096, 4096), (1 << 30, FIRST_OCTETS, MAX_OCTETS)]
)
def test_its_memory_grows_and_is_bounded(allowed: int, first: int, last: int) -> None:
    seen = SeenFilter(allowed)
    assert seen.octets == 0
    seen.seen_before(b"a")
    assert seen.octets == len(seen._fingerprints) == first
    for number in range(2 * MAX_OCTETS // 3 if allowed > MAX_OCTETS else 20_000):
        seen.seen_before(b"%d" % number)
        assert seen.octets <= last
    assert seen.octets == last


def test_it_remembers_keys_when_it_has_grown() -> None:
    seen = SeenFilter(MAX_OCTETS)
    keys = [b"%d" % number for number in range(FIRST_OCTETS // 3)]
    for key in keys:
        seen.seen_before(key)
    assert seen.octets > FIRST_OCTETS
    assert sum(map(seen.seen_before, keys)) > 0.85 * len(keys)


def test_a_smaller_size_forgets_all_keys() -> None:
    seen = SeenFilter(8192)
    seen.seen_before(b"a")
    seen.resize(8193)
    assert seen.seen_before(b"a")
    seen.resize(4096)
    assert not seen.seen_before(b"a")
    assert seen.octets == 4096
