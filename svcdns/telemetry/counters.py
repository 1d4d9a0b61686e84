"""Counters in memory that all processes share, so that no total falls because a process died.

The supervisor makes one mapping; each process has a region in it that it alone writes and control
reads. A region is self-describing: a directory of families and series that only grows, and cells of eight bytes. A process
that takes a region over finds its predecessor's cells and goes on from the values of counters; gauges begin at 0.

Layout of a region, all numbers little endian:

    0    f64  heartbeat, seconds on CLOCK_MONOTONIC (0: never beaten)
    8    f64  state, a `svcdns.process.shared_memory.State`
    16   u32  octets of directory in use
    20   u32  cells in use
    64        cells, f64 each, CELLS of them
    ...       directory: u32 length and msgpack of a Family or a Series, one after the other

Rules: one writer to a region; the directory entry is written before its length is, so a reader never sees half of one.
A histogram takes a cell per bucket (not cumulative), one for +Inf and one for the sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from svcdns.process.shared_memory import REGION_SIZE, State

CELLS: Final = 1 << 18
SPILL: Final = 64
"""The first cells of a region take what has no room: they belong to no series, and are as many as the widest family has."""
_CELLS_AT: Final = 64
_DIRECTORY_AT: Final = _CELLS_AT + 8 * CELLS
_DIRECTORY_SIZE: Final = REGION_SIZE - _DIRECTORY_AT


class MetricKind(StrEnum):
    """Metric types of the Prometheus exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(msgspec.Struct, frozen=True, array_like=True, tag="family"):
    """A metric: its full name (counters with `_total`), kind, help text, label names, and upper bounds of buckets.

    `uniform` marks what every process knows whole (the size of a file, a count that the kernel keeps): the page shows the largest value,
    not the sum.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    uniform: bool = False

    @property
    def width(self) -> int:
        """Cells that one series takes."""
        return len(self.buckets) + 2 if self.kind == MetricKind.HISTOGRAM else 1


class Series(msgspec.Struct, frozen=True, array_like=True, tag="series"):
    """One combination of label values of a family, and its first cell."""

    family: str
    values: tuple[str, ...]
    cell: int


class Sample(msgspec.Struct, frozen=True):
    """A series with its cells' values at one moment."""

    family: Family
    values: tuple[str, ...]
    cells: tuple[float, ...]


_entry = msgspec.msgpack.Decoder(Family | Series)
_encode = msgspec.msgpack.Encoder().encode


class Counters:
    """The writer's side of one region.

    `cell` finds or makes a series and gives its first cell, to be kept by whoever counts often; `add` and `set` work on a
    cell. Values are floats: exact up to 2**53.
    """

    def __init__(self, region: memoryview | None = None) -> None:
        """Takes over a region of REGION_SIZE octets, with what a predecessor left in it; without one, private memory."""
        self._region = memoryview(bytearray(REGION_SIZE)) if region is None else region
        self.values = self._region[_CELLS_AT:_DIRECTORY_AT].cast("d")
        self._words = self._region[16:24].cast("I")
        self._clock = self._region[0:16].cast("d")
        self._families: dict[str, Family] = {}
        self._cells: dict[tuple[str, tuple[str, ...]], int] = {}
        self.spilled = 0
        """Series that there was no room for."""
        for entry in _entries(self._region):
            if isinstance(entry, Family):
                self._families[entry.name] = entry
            else:
                self._cells[entry.family, entry.values] = entry.cell
        for family in self._families.values():
            if family.kind == MetricKind.GAUGE:
                self.clear(family)

    def beat(self, now: float) -> None:
        """Shows the supervisor that this process turns its loop; `now` on CLOCK_MONOTONIC."""
        self._clock[0] = now

    def state(self, state: State) -> None:
        """Shows control and supervisor what this process is doing."""
        self._clock[1] = float(state)

    def cell(self, family: Family, *values: str) -> int:
        """The first cell of the series with these label values, made at 0 where it is new.

        Where there is no room left, one that nobody reads, and `spilled` grows: a metric too many must not cost an answer.
        """
        key = (family.name, values)
        found = self._cells.get(key)
        if found is not None:
            return found
        if len(values) != len(family.labels):
            raise ValueError(f"{family.name} has labels {family.labels}, not {values}")
        cell = max(self._words[1], SPILL)
        new: list[Family | Series] = [] if family.name in self._families else [family]
        if cell + family.width > CELLS or not self._append(*new, Series(family.name, values, cell)):
            self.spilled += 1
            self._cells[key] = 0
            return 0
        self._families[family.name] = family
        self._words[1] = cell + family.width
        self._cells[key] = cell
        return cell

    def add(self, cell: int, amount: float = 1.0) -> None:
        """Adds to a cell."""
        self.values[cell] += amount

    def set(self, cell: int, value: float) -> None:
        """Sets a gauge."""
        self.values[cell] = value

    def count(self, family: Family, *values: str, amount: float = 1.0) -> None:
        """Adds to a counter or gauge by its label values; for what is rare."""
        self.values[self.cell(family, *values)] += amount

    def observe(self, family: Family, cell: int, value: float) -> None:
        """Puts one observation into the histogram that starts at `cell`."""
        self.values[cell + bisect_left(family.buckets, value)] += 1
        self.values[cell + len(family.buckets) + 1] += value

    def clear(self, family: Family) -> None:
        """Sets every series of a gauge to 0."""
        for (name, _), cell in self._cells.items():
            if name == family.name:
                self.values[cell] = 0.0

    def _append(self, *entries: Family | Series) -> bool:
        """Puts all of them into the directory, or none where there is no room."""
        data = b"".join(len(one).to_bytes(4, "little") + one for one in map(_encode, entries))
        used = self._words[0]
        if used + len(data) > _DIRECTORY_SIZE:
            return False
        at = _DIRECTORY_AT + used
        self._region[at : at + len(data)] = data
        self._words[0] = used + len(data)
        return True


def samples(region: memoryview) -> Iterator[Sample]:
    """Every series of a region with its values now."""
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
