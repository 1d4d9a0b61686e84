"""Differences between versions of a zone (RFC 1995)."""

from __future__ import annotations

import pytest

from svcdns.wire.zone_differences import Difference, TransferReader
from svcdns.zones.differences import DifferenceError, applied, between
from tests.support import world
from tests.zones.test_history import ZONE, soa


def test_the_records_that_differ() -> None:
    """A record counts once, in any letter case, and with the lowest TTL of its RRset, as the server answers."""
    old = world.records(
        "a.example.org. 60 IN A 10.0.0.1", "A.example.org. 60 IN A 10.0.0.1", "a.example.org. 5 IN A 10.0.0.2",
        "b.example.org. 60 IN A 10.0.0.1",
    )  # fmt: skip
    new = world.records(
        "a.example.org. 5 IN A 10.0.0.1", "a.example.org. 60 IN A 10.0.0.2", "b.example.org. 9 IN A 10.0.0.1",
        "c.example.org. 60 IN A 10.0.0.1",
    )  # fmt: skip
    found = between(soa(1), old, soa(2), new)
    assert (found.before, found.after) == (soa(1), soa(2))
    assert world.shown(found.deleted) == ["b.example.org. 60 IN A 10.0.0.1"]
    assert world.shown(found.added) == ["b.example.org. 9 IN A 10.0.0.1", "c.example.org. 60 IN A 10.0.0.1"]


@pytest.mark.parametrize(
    ("deleted", "added", "error"),
    [
        pytest.param(["b.example.org. 60 IN A 10.0.0.1"], [], "a deleted record does not exist: b.example.org. A", id="deleted"),
        pytest.param([], ["A.example.org. 5 IN A 10.0.0.1"], "an added record exists with another TTL", id="added"),
    ],
)  # fmt: skip
def test_differences_that_do_not_fit(deleted: list[str], added: list[str], error: str) -> None:
    records = [soa(1), *world.records(*deleted), soa(2), *world.records(*added), soa(2)]
    transfer = TransferReader(ZONE, 1).read((soa(2), *records))
    assert transfer is not None
    with pytest.raises(DifferenceError, match=error):
        applied(soa(1), world.records("a.example.org. 60 IN A 10.0.0.1"), transfer.differences)
    with pytest.raises(DifferenceError, match="the differences are from serial 1"):
        applied(soa(7), [], transfer.differences)


def test_an_added_record_may_exist() -> None:
    """NSD adds some records that have not changed."""
    (record,) = world.records("a.example.org. 60 IN A 10.0.0.1")
    assert applied(soa(1), [record], [Difference(soa(1), [], soa(2), [record])]) == (soa(2), [record])
