"""Endpoints of a Service that are correct at the time of a reply."""

from __future__ import annotations

import pytest

from bench.cluster import Cluster
from bench.endpoint_history import ALLOWED_LAG, EndpointHistory, Outage, packed

CLUSTER = Cluster(20, 2)
BEFORE, AFTER = packed(CLUSTER.pods(10)), packed(["11.0.0.9", CLUSTER.pods(10)[1]])


@pytest.fixture
def history() -> EndpointHistory:
    """The history of Service 10, which changed at 100 s. The request for the change took 0.2 s."""
    history = EndpointHistory(CLUSTER)
    history.changed(10, "11.0.0.9", 100.0, 100.2)
    return history


@pytest.mark.parametrize(
    ("sent", "received", "before", "after"),
    [
        pytest.param(90.0, 90.1, True, False, id="before the change"),
        pytest.param(99.9, 100.1, True, True, id="during the change"),
        pytest.param(100.2 + ALLOWED_LAG, 101.3, True, True, id="within the allowed lag"),
        pytest.param(100.3 + ALLOWED_LAG, 101.4, False, True, id="after the allowed lag"),
        pytest.param(90.0, 100.0, True, True, id="a slow response"),
    ],
)
def test_endpoints_are_valid_at_a_moment(
    history: EndpointHistory, sent: float, received: float, *, before: bool, after: bool
) -> None:
    """A reply is accepted if its endpoints were the Service's at some moment after ALLOWED_LAG before the query."""
    assert history.accepts(10, BEFORE, sent, received) is before
    assert history.accepts(10, AFTER, sent, received) is after


def test_some_of_the_endpoints_are_not_valid(history: EndpointHistory) -> None:
    """A reply must have all endpoints of one state, and none of another state."""
    assert not history.accepts(10, packed(CLUSTER.pods(10)[1:]), 90.0, 90.1)
    assert not history.accepts(10, BEFORE | AFTER, 100.0, 100.1)


def test_endpoints_from_before_an_outage_are_valid_in_it(history: EndpointHistory) -> None:
    """A reply with old endpoints is accepted until ALLOWED_LAG after the end of the outage."""
    history.outages.append(Outage(99.0, until=150.0))
    assert history.accepts(10, BEFORE, 149.0, 149.1)
    assert history.accepts(10, BEFORE, 150.0 + ALLOWED_LAG, 151.1)
    assert not history.accepts(10, BEFORE, 150.1 + ALLOWED_LAG, 151.2)
    assert history.accepts(10, AFTER, 149.0, 149.1)


def test_endpoints_that_were_replaced_before_an_outage_are_not_valid_in_it(history: EndpointHistory) -> None:
    history.outages.append(Outage(120.0, until=150.0))
    assert not history.accepts(10, BEFORE, 130.0, 130.1)
