"""The order of address records in replies."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugin_api.networks import Network
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.loadbalance.rotation import WEIGHTED_VARIANTS, Rotation, WeightedDraw, by_kind, preferring
from tests.support import world


def addresses(count: int) -> Reply:
    """Returns a reply with a CNAME record and `count` addresses."""
    lines = ["a. 5 IN CNAME b."] + [f"b. 5 IN A 10.0.0.{number}" for number in range(count)]
    return Reply(answer=world.records(*lines))


def rotations(reply: Reply, count: int, seed: int) -> list[Reply]:
    """Returns `count` variants of the reply, each with another order of the records."""
    made = Rotation(reply, Random(seed))
    return [made.variant(number, count) for number in range(count)]


@given(st.integers(2, 40), st.integers(2, 16), st.integers())
def test_each_variant_is_the_same_set(count: int, most: int, seed: int) -> None:
    """No record is lost or doubled, and the CNAME record stays first."""
    reply = addresses(count)
    for variant in rotations(reply, most, seed):
        assert variant.answer[0] == reply.answer[0]
        assert Counter(variant.answer) == Counter(reply.answer)


@given(st.integers(1, 40), st.integers())
def test_each_address_comes_first_equally_often(count: int, seed: int) -> None:
    first = Counter(variant.answer[1] for variant in rotations(addresses(count), count, seed))
    assert (set(first.values()), len(first)) == ({1}, count)


def test_the_widest_group_counts() -> None:
    """`widest` is the largest number of addresses of one family in any section."""
    reply = Reply(
        answer=world.records("a. 5 IN SRV 0 0 1 b."), additional=world.records("b. 5 IN A 10.0.0.1", "b. 5 IN AAAA ::1")
    )
    assert [Rotation(r, Random(1)).widest for r in (addresses(7), reply, Reply())] == [7, 2, 0]


def test_the_order_is_random() -> None:
    reply = addresses(8)
    assert len({rotations(reply, 1, seed)[0].answer for seed in range(20)}) > 10


def test_groups_of_a_section() -> None:
    """The records are in the order: CNAME records, other types, addresses, MX records."""
    records = world.records("a. 5 IN MX 1 m.", "a. 5 IN A 10.0.0.1", 'a. 5 IN TXT "x"', "a. 5 IN CNAME b.")
    ordered = tuple(record for group, _ in by_kind(records) for record in group)
    assert [line.split()[3] for line in world.shown(ordered)] == ["CNAME", "TXT", "A", "MX"]


@given(st.lists(st.integers(1, 255), min_size=2, max_size=12), st.integers())
def test_weighted_variants_have_each_address_first_by_its_share(weights: list[int], seed: int) -> None:
    """The share of an address is proportional to its weight. No record is lost."""
    reply = addresses(len(weights))
    known = {b"\1b\0": {bytes((10, 0, 0, number)): weight for number, weight in enumerate(weights)}}
    made = WeightedDraw(reply, Random(seed), known)
    variants = [made.variant(number, WEIGHTED_VARIANTS) for number in range(WEIGHTED_VARIANTS)]
    assert made.widest == WEIGHTED_VARIANTS
    for variant in variants:
        assert variant.answer[0] == reply.answer[0]
        assert Counter(variant.answer) == Counter(reply.answer)
    first = Counter(variant.answer[1].rdata[3] for variant in variants)
    for number, weight in enumerate(weights):
        assert abs(first[number] - WEIGHTED_VARIANTS * weight / sum(weights)) < 1.001


def test_sections_without_addresses_stay() -> None:
    reply = Reply(
        answer=world.records("a. 5 IN SRV 0 0 1 b.", "a. 5 IN CNAME b."), additional=world.records("b. 5 IN A 10.0.0.1")
    )
    made = WeightedDraw(reply, Random(1), {})
    assert (made.widest, made.variant(0, 1)) == (1, reply)


@given(st.integers(1, 12), st.integers(1, 12), st.integers())
def test_each_preferred_address_comes_first_equally_often(count: int, others: int, seed: int) -> None:
    """In `count` variants, each preferred address is first once, and no other address is first."""
    networks = [Network.from_text("10.9.0.0/16")]
    lines = [f"a. 5 IN A 10.9.0.{number}" for number in range(count)] + [
        f"a. 5 IN A 10.0.0.{number}" for number in range(others)
    ]
    reply = Reply(answer=world.records(*lines))
    made = Rotation(reply, Random(seed), preferring(networks))
    first = Counter(made.variant(number, count).answer[0].rdata for number in range(count))
    assert set(first.values()) == {1}
    assert all(rdata[1] == 9 for rdata in first)
