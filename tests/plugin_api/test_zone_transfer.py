"""Helpers for plugins that offer zone transfers: sorting, and the serial."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugin_api.zone_transfer import RUN, in_order
from svcdns.wire.zone_differences import serial_of
from tests.support import world


@given(st.lists(st.text(max_size=2), max_size=5 * RUN))
def test_in_order_sorts_everything(items: list[str]) -> None:
    """`in_order` also yields None between items."""
    assert [item for item in in_order(items, lambda text: (text,)) if item is not None] == sorted(items)


def test_in_order_works_in_small_pieces() -> None:
    """`in_order` yields None after each sorted run, so that the caller can do other work."""

    def key(text: str) -> tuple[str, ...]:
        return (text,)

    items = [str(number) for number in range(3 * RUN)]
    pieces = in_order(items, key)
    found = list(pieces)
    assert found[:3] == [None, None, None]
    assert found.count(None) == 3


def test_the_serial_is_that_of_the_soa() -> None:
    """RFC 1035 §3.3.13 defines the field."""
    assert serial_of(world.records("a. 5 IN SOA ns.a. host.a. 4294967295 2 3 4 5")[0]) == 4294967295
