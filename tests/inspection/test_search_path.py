"""The names that a resolver queries for a name, in the order of the search path."""

from __future__ import annotations

import pytest

from svcdns.inspection.search_path import domains, expanded

SEARCH = domains("shop", "cluster.local.")


def test_the_domains_of_a_pod() -> None:
    assert SEARCH == ("shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local.")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("web", ("web.shop.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local.", "web.")),
        ("web.", ("web.",)),
        ("a.b.c.d.e.f", ("a.b.c.d.e.f.", *(f"a.b.c.d.e.f.{one}" for one in SEARCH))),
    ],
)
def test_names_in_the_order_in_which_they_are_asked(name: str, names: tuple[str, ...]) -> None:
    assert expanded(name, SEARCH) == names
