"""Samples of the queries that the program in the kernel answers."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from svcdns.accelerator.name_samples import RATE, Used, write_samples
from svcdns.process.sample_memory import private_ring
from svcdns.telemetry.query_samples import NO_CLIENT_TEXTS, Ring


def test_samples_have_the_entry_and_no_client() -> None:
    ring = Ring(private_ring())
    write_samples(ring, 5.0, [Used(b"four", 1, 3, 1, True), Used(b"six", 1, 0, 2, False)])
    found = list(ring.samples())
    assert [(one.at, one.weight, one.rcode, one.client, one.key, one.is_local) for one in found] == [
        (5.0, 1.0, 3, "0.0.0.0", b"four", True),
        (5.0, 1.0, 0, "::", b"six", False),
    ]
    assert {one.client for one in found} == NO_CLIENT_TEXTS


@given(uses=st.lists(st.integers(1, 10_000), max_size=30), seed=st.integers(0, 1 << 30))
@settings(max_examples=30)
def test_samples_are_in_proportion_to_the_uses(uses: list[int], seed: int) -> None:
    """The weights of the samples add up to all uses. The weight of each entry differs by less than one sample."""
    ring = Ring(private_ring())
    write_samples(ring, 5.0, [Used(b"%d" % n, one, 0, 1, False) for n, one in enumerate(uses)], Random(seed))
    found = list(ring.samples())
    assert len(found) <= RATE
    assert abs(sum(one.weight for one in found) - sum(uses)) < 1e-6 * (1 + sum(uses))
    for number, one in enumerate(uses):
        weight = sum(sample.weight for sample in found if sample.key == b"%d" % number)
        assert abs(weight - one) <= sum(uses) / min(RATE, sum(uses)) + 1e-6
