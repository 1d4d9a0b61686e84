"""Counters in memory that all processes share, so that no total decreases when a process ends.

A process writes to its own region of the shared memory (`svcdns.process.shared_memory`), and control reads all regions.
A region has a directory of families and series, and cells of eight octets with the values. A process that starts in a
region continues its counters; gauges start at 0. All numbers are little endian:

    0    f64  heartbeat, seconds on CLOCK_MONOTONIC (0: none yet)
    8    f64  state, a `svcdns.process.shared_memory.State`
    16   u32  octets of directory in use
    20   u32  cells in use
    64        cells, f64 each, CELLS of them
    ...       directory: u32 length and msgpack of a Family or a Series, one after the other

A directory entry is written before the length that includes it. A histogram has one cell for each bucket (not
cumulative), one for +Inf and one for the sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import msgspec

from svcdns.process.shared_memory import REGION_SIZE, State

CELLS: Final = 1 << 18
OVERFLOW_CELLS: Final = 64
"""The first cells of a region, which belong to no series: a series without room is written to them.

No family has more cells for one series.
"""
_CELLS_AT: Final = 64
_DIRECTORY_AT: Final = _CELLS_AT + 8 * CELLS
_DIRECTORY_SIZE: Final = REGION_SIZE - _DIRECTORY_AT


class MetricKind(StrEnum):
    """The metric types of the Prometheus exposition format that are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(msgspec.Struct, frozen=True, array_like=True, tag="family"):
    """A metric: its full name (counters with `_total`), kind, help text, label names, and upper bounds of buckets.

    If `uniform` is true, the value is the same in every process, such as the size of a file. The page /metrics then has
    the largest value, not the sum.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    uniform: bool = False

    @property
    def width(self) -> int:
        """Returns the number of cells of one series.

        A cell holds one number: the value, or one bucket of a histogram.
        """
        return len(self.buckets) + 2 if self.kind == MetricKind.HISTOGRAM else 1


class Series(msgspec.Struct, frozen=True, array_like=True, tag="series"):
    """A time series of a metric: its label values, and the number of its first cell in the shared memory."""

    family: str
    values: tuple[str, ...]
    cell: int


class Sample(msgspec.Struct, frozen=True):
    """A time series, with the values of its cells. A histogram has several cells: its buckets and its sum."""

    family: Family
    values: tuple[str, ...]
    cells: tuple[float, ...]


_entry = msgspec.msgpack.Decoder(Family | Series)
_encode = msgspec.msgpack.Encoder().encode


class Counters:
    """Writes the counters of one process to its region of the shared memory.

    `cell` returns the number of a series' first cell. A caller that counts often should keep this number for `add` and
    `set`.
    """

    def __init__(self, region: memoryview | None = None) -> None:
        """Continues the counters in a region of REGION_SIZE octets. Without a region, uses private memory."""
        self._region = memoryview(bytearray(REGION_SIZE)) if region is None else region
        self.values = self._region[_CELLS_AT:_DIRECTORY_AT].cast("d")
        self._words = self._region[16:24].cast("I")
        self._clock = self._region[0:16].cast("d")
        self._families: dict[str, Family] = {}
        self._cells: dict[tuple[str, tuple[str, ...]], int] = {}
        self.overflowed = 0
        """The number of series for which the region had no room."""
        for entry in _entries(self._region):
            if isinstance(entry, Family):
                self._families[entry.name] = entry
            else:
                self._cells[entry.family, entry.values] = entry.cell
        for family in self._families.values():
            if family.kind == MetricKind.GAUGE:
                self.clear(family)

    def heartbeat(self, now: float) -> None:
        """Writes the heartbeat, by which the supervisor sees that this process runs.

        `now` is in seconds on CLOCK_MONOTONIC.
        """
        self._clock[0] = now

    def state(self, state: State) -> None:
        """Publishes the state of this process, for the control process and the supervisor."""
        self._clock[1] = float(state)

    def cell(self, family: Family, *values: str) -> int:
        """Returns the number of the first cell of the series with these label values. A new series starts at 0.

        If the region is full, increments `overflowed` and returns a cell that is never read.
        """
        key = (family.name, values)
        found = self._cells.get(key)
        if found is not None:
            return found
        if len(values) != len(family.labels):
            raise ValueError(f"{family.name} has labels {family.labels}, not {values}")
        cell = max(self._words[1], OVERFLOW_CELLS)
        new: list[Family | Series] = [] if family.name in self._families else [family]
        if cell + family.width > CELLS or not self._append(*new, Series(family.name, values, cell)):
            self.overflowed += 1
            self._cells[key] = 0
            return 0
        self._families[family.name] = family
        self._words[1] = cell + family.width
        self._cells[key] = cell
        return cell

    def add(self, cell: int, amount: float = 1.0) -> None:
        """Adds `amount` to the number in `cell`, a result of the method `cell`."""
        self.values[cell] += amount

    def set(self, cell: int, value: float) -> None:
        """Sets the value of a gauge. `cell` is a result of the method `cell`."""
        self.values[cell] = value

    def count(self, family: Family, *values: str, amount: float = 1.0) -> None:
        """Adds `amount` to the counter or gauge with these label values.

        Meant for rare events: each call looks up the series.
        """
        self.values[self.cell(family, *values)] += amount

    def observe(self, family: Family, cell: int, value: float) -> None:
        """Adds the observation `value` to a histogram. `cell` is a result of the method `cell`."""
        self.values[cell + bisect_left(family.buckets, value)] += 1
        self.values[cell + len(family.buckets) + 1] += value

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Context manager that restores the values of all counters at its end. Do not await anything inside."""
        before = self.values[: self._words[1]].tobytes()
        try:
            yield
        finally:
            after = before + bytes(8 * self._words[1] - len(before))  # series that are new have the value 0
            self.values[: self._words[1]] = memoryview(after).cast("d")

    def clear(self, family: Family) -> None:
        """Sets all series of a gauge to 0."""
        for (name, _), cell in self._cells.items():
            if name == family.name:
                self.values[cell] = 0.0

    def _append(self, *entries: Family | Series) -> bool:
        """Adds all entries to the directory. If there is no room for all of them, adds none and returns False."""
        data = b"".join(len(one).to_bytes(4, "little") + one for one in map(_encode, entries))
        used = self._words[0]
        if used + len(data) > _DIRECTORY_SIZE:
            return False
        at = _DIRECTORY_AT + used
        self._region[at : at + len(data)] = data
        self._words[0] = used + len(data)
        return True


def samples(region: memoryview) -> Iterator[Sample]:
    """Yields every time series of a process, with its values. `region` is the process's part of the shared memory."""
    families: dict[str, Family] = {}
    cells = region[_CELLS_AT:_DIRECTORY_AT].cast("d")
    for entry in _entries(region):
        if isinstance(entry, Family):
            families[entry.name] = entry
        else:
            family = families[entry.family]
            yield Sample(family, entry.values, tuple(cells[entry.cell : entry.cell + family.width]))


def _entries(region: memoryview) -> Iterator[Family | Series]:
    at, used = _DIRECTORY_AT, int.from_bytes(region[16:20], "little")
    end = _DIRECTORY_AT + used
    while at < end:
        size = int.from_bytes(region[at : at + 4], "little")
        yield _entry.decode(region[at + 4 : at + 4 + size])
        at += 4 + size
