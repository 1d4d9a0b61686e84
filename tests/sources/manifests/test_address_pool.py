"""Addresses that svcdns assigns. They depend only on names, are in their range, and are not used in a manifest."""

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.sources.manifests.address_pool import POD_RANGE, POD_RANGE_6, RangeFullError, assign, suffix

SMALL = IPv4Network("10.0.0.0/27")
SMALL_6 = IPv6Network("fd00::/123")
NAMES = st.sets(st.tuples(st.sampled_from(["a", "b"]), st.text("xyz", min_size=1, max_size=3)), max_size=20)
NAME = st.tuples(st.just("new"), st.text("xyz", min_size=1, max_size=3))


@given(names=NAMES)
def test_same_at_every_start(names: set[tuple[str, str]]) -> None:
    forwards = assign(sorted(names), SMALL, SMALL_6, ())
    backwards = assign(sorted(names, reverse=True), SMALL, SMALL_6, ())
    assert forwards == backwards


@given(names=NAMES, written=st.sets(st.sampled_from([str(SMALL[i]) for i in range(32)]), max_size=8))
def test_unique_inside_the_range_and_not_in_a_manifest(names: set[tuple[str, str]], written: set[str]) -> None:
    """The first and the last address of the range are not assigned."""
    assigned = assign(names, SMALL, SMALL_6, written)
    firsts = [pair[0] for pair in assigned.values()]
    assert set(assigned) == names
    assert len(set(firsts)) == len(firsts)
    assert not written & set(firsts)
    for first, second in assigned.values():
        assert ip_address(first) in list(SMALL.hosts())
        assert ip_address(second) in SMALL_6


@given(names=NAMES, new=NAME)
def test_a_new_name_changes_no_other_address(names: set[tuple[str, str]], new: tuple[str, str]) -> None:
    """The only exception is a name that has the same address."""
    before = assign(names, SMALL, SMALL_6, ())
    after = assign(names | {new}, SMALL, SMALL_6, ())
    taken = after.pop(new)
    if taken not in before.values():
        assert after == before


@given(names=st.sets(st.tuples(st.just("n"), st.text("xyz", min_size=1, max_size=3)), min_size=1, max_size=20))
def test_removing_a_name_changes_no_other_address(names: set[tuple[str, str]]) -> None:
    """The only exception is a name whose first choice was the removed address."""
    gone = max(names)
    before = assign(names, POD_RANGE, POD_RANGE_6, ())
    after = assign(names - {gone}, POD_RANGE, POD_RANGE_6, ())
    position = before.pop(gone)
    if position not in after.values():
        assert after == before


def test_an_ipv6_address_in_a_manifest_is_not_assigned() -> None:
    """The name then gets another IPv4 address, too."""
    (pair,) = assign([("n", "x")], SMALL, SMALL_6, ()).values()
    (other,) = assign([("n", "x")], SMALL, SMALL_6, {pair[1]}).values()
    assert other[0] != pair[0]
    assert other[1] != pair[1]


def test_known_address() -> None:
    """Scripts and documents contain assigned addresses, so all versions assign the same addresses."""
    assert assign([("default", "db-0")], POD_RANGE, POD_RANGE_6, ()) == {
        ("default", "db-0"): ("10.244.134.203", "fd00:10:244::86cb")
    }


def test_full_range() -> None:
    """30 names fit into a range of 32 addresses."""
    names = [("n", str(number)) for number in range(31)]
    assert len(assign(names[:30], SMALL, SMALL_6, ())) == 30
    with pytest.raises(RangeFullError):
        assign(names, SMALL, SMALL_6, ())


def test_suffixes() -> None:
    """The same text gives the same suffix, with the given length. The suffix differs from those in use."""
    first = suffix("text", 5)
    assert suffix("text", 5) == first
    assert len(first) == 5
    assert set(first) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert suffix("text", 5, {first}) != first
