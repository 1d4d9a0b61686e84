"""The age of the known objects, which is the time since the API server last confirmed them."""

from __future__ import annotations

from svcdns.cluster.changes import Kind
from svcdns.sources.api.staleness import Freshness


def test_ages() -> None:
    """Each kind has its own age, counted from its last confirmation. Without a confirmation, it is counted from the
    start.
    """
    now = [1000.0]
    fresh = Freshness([Kind.SERVICE, Kind.NAMESPACE], lambda: now[0])
    now[0] += 10
    fresh.confirm(Kind.SERVICE)
    now[0] += 5
    assert fresh.ages() == {Kind.SERVICE: 5.0, Kind.NAMESPACE: 15.0}


def test_an_assumed_age_counts_until_a_confirmation() -> None:
    """A negative age counts as 0. It may come from a clock that was ahead."""
    now = [1000.0]
    fresh = Freshness([Kind.SERVICE, Kind.NAMESPACE], lambda: now[0])
    fresh.assume(60.0)
    now[0] += 1
    fresh.confirm(Kind.NAMESPACE)
    assert fresh.ages() == {Kind.SERVICE: 61.0, Kind.NAMESPACE: 0.0}
    fresh.assume(-60.0)
    assert fresh.ages() == {Kind.SERVICE: 0.0, Kind.NAMESPACE: 0.0}


def test_a_confirmation_can_be_taken_back() -> None:
    now = [1000.0]
    fresh = Freshness([Kind.SERVICE], lambda: now[0])
    before = fresh.confirmed(Kind.SERVICE)
    now[0] += 10
    fresh.confirm(Kind.SERVICE)
    fresh.restore(Kind.SERVICE, before)
    assert fresh.ages() == {Kind.SERVICE: 10.0}


def test_the_objects_are_known_after_a_list_of_each_kind() -> None:
    """After `assume` has set the age of objects from a snapshot, the objects are known, too."""
    fresh = Freshness([Kind.SERVICE, Kind.NAMESPACE], lambda: 1000.0)
    fresh.confirm(Kind.SERVICE)
    assert not fresh.is_known
    fresh.confirm(Kind.NAMESPACE)
    assert fresh.is_known
    other = Freshness([Kind.SERVICE, Kind.NAMESPACE], lambda: 1000.0)
    other.assume(60.0)
    assert other.is_known
