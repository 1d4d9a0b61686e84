"""What counts as true when an answer comes."""

from __future__ import annotations

import pytest

from bench.cluster import Cluster
from bench.truth import LATE, Trouble, Truth, packed

CLUSTER = Cluster(20, 2)
BEFORE, AFTER = packed(CLUSTER.pods(10)), packed(["11.0.0.9", CLUSTER.pods(10)[1]])


@pytest.fixture
def truth() -> Truth:
    """Service 10 changed at 100 s, in a request of 0.2 s."""
    truth = Truth(CLUSTER)
    truth.changed(10, "11.0.0.9", 100.0, 100.2)
    return truth


@pytest.mark.parametrize(
    ("sent", "came", "before", "after"),
    [
        pytest.param(90.0, 90.1, True, False, id="long before"),
        pytest.param(99.9, 100.1, True, True, id="while it changes"),
        pytest.param(100.2 + LATE, 101.3, True, True, id="a second later"),
        pytest.param(100.3 + LATE, 101.4, False, True, id="later still"),
        pytest.param(90.0, 100.0, True, True, id="an answer that took long"),
    ],
)
def test_an_answer_is_the_truth_of_a_moment(truth: Truth, sent: float, came: float, *, before: bool, after: bool) -> None:
    """From a second before the question until the answer."""
    assert truth.right(10, BEFORE, sent, came) is before
    assert truth.right(10, AFTER, sent, came) is after


def test_half_of_an_answer_is_never_right(truth: Truth) -> None:
    """All addresses, and no others."""
    assert not truth.right(10, packed(CLUSTER.pods(10)[1:]), 90.0, 90.1)
    assert not truth.right(10, BEFORE | AFTER, 100.0, 100.1)


def test_in_trouble_what_was_true_before_it_counts(truth: Truth) -> None:
    """Until the trouble is over, and a second more."""
    truth.troubles.append(Trouble(99.0, until=150.0))
    assert truth.right(10, BEFORE, 149.0, 149.1)
    assert truth.right(10, BEFORE, 150.0 + LATE, 151.1)
    assert not truth.right(10, BEFORE, 150.1 + LATE, 151.2)
    assert truth.right(10, AFTER, 149.0, 149.1)


def test_what_was_over_before_the_trouble_does_not_count(truth: Truth) -> None:
    """A stale answer is none of an outage that began later."""
    truth.troubles.append(Trouble(120.0, until=150.0))
    assert not truth.right(10, BEFORE, 130.0, 130.1)
