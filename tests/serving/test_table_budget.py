"""Dividing the container's memory limit among the answer tables."""

from __future__ import annotations

import pytest

from svcdns.serving.table_budget import UNLIMITED, divide, table_budget


def test_all_workers_share_an_eighth_of_the_limit() -> None:
    """The sum is never more than the workers would have without a memory limit."""
    assert table_budget(None, 3) == UNLIMITED
    assert table_budget(160 << 20, 1) == 20 << 20
    assert table_budget(160 << 20, 2) == 10 << 20
    assert table_budget(1 << 40, 1) == UNLIMITED


@pytest.mark.parametrize(
    ("used", "shares"),
    [
        pytest.param([False, False, False], [26, 26, 26], id="all idle"),
        pytest.param([True, False, False], [588, 26, 26], id="one in use"),
        pytest.param([True, False, True], [460, 26, 153], id="two in use"),
        pytest.param([True, True, True], [274, 274, 91], id="all in use"),
    ],
)
def test_tables_divide_a_budget(used: list[bool], shares: list[int]) -> None:
    """Tables that are not in use get a small share. The other tables divide the rest."""
    found = divide(640, ["udp", "udp", "tcp"], used)
    assert found == shares
    assert sum(found) <= 640


def test_no_tables_get_an_empty_list() -> None:
    assert divide(640, [], []) == []
