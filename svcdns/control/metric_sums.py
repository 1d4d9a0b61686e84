"""The values of the metrics, combined from the counters of all processes."""

from __future__ import annotations

from collections.abc import Mapping
from operator import add
from typing import Final, NamedTuple

from svcdns.process.shared_memory import SIDES, State, control_region, state
from svcdns.telemetry.counters import Family, MetricKind, samples

_CONTROLS: Final = [control_region(side) for side in range(SIDES)]

Series = Mapping[tuple[str, ...], list[float]]
"""The cells of each time series, by its label values."""


class Combined(NamedTuple):
    """A metric with all its time series."""

    family: Family
    series: dict[tuple[str, ...], list[float]]


def combined(regions: list[memoryview], own: int) -> dict[str, Combined]:
    """Returns all metrics by name. The values of the processes are added.

    For a family that is marked `uniform`, the greatest value is used. Gauges of processes that have ended, and of a
    second control process during a rolling replacement, are left out. `regions` are all regions of the shared memory.
    `own` is the number of this control process's region.
    """
    out: dict[str, Combined] = {}
    for number, region in enumerate(regions):
        past = state(region) == State.ENDED or (number in _CONTROLS and number != own)
        for sample in samples(region):
            if past and sample.family.kind == MetricKind.GAUGE:
                continue
            series = out.setdefault(sample.family.name, Combined(sample.family, {})).series
            before = series.get(sample.values)
            join = max if sample.family.uniform else add
            series[sample.values] = list(sample.cells) if before is None else list(map(join, before, sample.cells))
    return out
