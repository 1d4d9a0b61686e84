"""The queries and the table of `bench.accelerator`."""

from __future__ import annotations

from bench.accelerator import MIX_NXDOMAIN, mix
from bench.cluster import EXTERNAL_ZONE, ZONE, Cluster
from svcdns.accelerator.layout import SMALL_SLOTS


def test_the_mix_fits_into_the_shared_memory() -> None:
    """Each measured query is also sent before the measurement, and the share of denials is known."""
    every, lines = mix(Cluster(10_000), 16_000)
    assert len(set(every)) == len(every) < SMALL_SLOTS
    assert set(lines) <= set(every)
    denied = [line for line in lines if line.split()[0].endswith(ZONE) and f".{EXTERNAL_ZONE}." in line]
    assert len(denied) / len(lines) == MIX_NXDOMAIN
