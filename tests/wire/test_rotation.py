"""Varying the order of addresses."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire.reply import Reply
from svcdns.wire.rotation import in_order, rotations, shuffled
from tests.support import world


def addresses(count: int) -> Reply:
    """That many addresses behind an alias."""
    lines = ["a. 5 IN CNAME b."] + [f"b. 5 IN A 10.0.0.{number}" for number in range(count)]
    return Reply(answer=world.records(*lines))


@given(st.integers(2, 40), st.integers(2, 16), st.integers())
def test_each_variant_is_the_same_set(count: int, most: int, seed: int) -> None:
    """Nothing is lost or doubled, the alias stays in front, and there are no more variants than asked for."""
    reply = addresses(count)
    variants = rotations(reply, most, Random(seed))
    assert len(variants) == min(count, most)
    for variant in variants:
        assert variant.answer[0] == reply.answer[0]
        assert Counter(variant.answer) == Counter(reply.answer)


def test_each_address_comes_first_equally_often() -> None:
    """Over all variants."""
    first = Counter(variant.answer[1] for variant in rotations(addresses(4), 16, Random(1)))
    assert set(first.values()) == {1}


def test_one_address_has_one_variant() -> None:
    """There is nothing to vary."""
    assert rotations(addresses(1), 16, Random(1)) == (addresses(1),)


def test_the_order_is_random() -> None:
    """Not the one that came."""
    records = addresses(8).answer
    assert len({shuffled(records, Random(seed)) for seed in range(20)}) > 10


def test_kinds() -> None:
    """Aliases, others, addresses, mail exchanges; a single kind as it stood."""
    records = world.records("a. 5 IN MX 1 m.", "a. 5 IN A 10.0.0.1", 'a. 5 IN TXT "x"', "a. 5 IN CNAME b.")
    assert [line.split()[3] for line in world.shown(in_order(records))] == ["CNAME", "TXT", "A", "MX"]
    assert in_order(records[:1]) is not None
