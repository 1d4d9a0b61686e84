"""Measures what the mirror of an answer table costs the worker (docs/accelerator.md): CPU time of each step.

The command is `python -m bench.mirror_costs`. The command needs no privileges: the maps are files in memory.
"""

from __future__ import annotations

import argparse
import mmap
import os
from collections.abc import Callable
from statistics import median
from time import process_time
from types import SimpleNamespace
from typing import Any, Final, cast

from svcdns.accelerator.layout import COUNT_SIZE, COUNT_WORDS, LARGE_SLOTS, SMALL_SIZE, SMALL_SLOTS, USES_AT, map_shapes
from svcdns.accelerator.memory import Memory
from svcdns.accelerator.mirror import TableMirror
from svcdns.chain.routing import DROPPED
from svcdns.serving.answer_table import AnswerTable, Entry
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.serving.responder import Responder

CPUS: Final = 2
HIT_COUNTERS: Final = 100
ROTATIONS: Final = 32
BUDGET: Final = 1 << 28


class Bench:
    """An answer table with a mirror."""

    def __init__(self) -> None:
        """Makes the maps."""
        descriptors = []
        for name, (size, elements) in map_shapes(SMALL_SLOTS, LARGE_SLOTS, CPUS).items():
            descriptor = os.memfd_create(name)
            os.ftruncate(descriptor, -(-size * elements // mmap.PAGESIZE) * mmap.PAGESIZE)
            os.write(descriptor, bytes(size * elements))  # so that no page is new to the measured steps
            descriptors.append(descriptor)
        self.now = 1000.0
        self.memory = Memory(descriptors, SMALL_SLOTS, LARGE_SLOTS, CPUS, lambda: self.now)
        self.table = AnswerTable(BUDGET, lambda: self.now)
        responder = SimpleNamespace(table=self.table, datagrams=True, uniform=True, sampling=None)
        self.mirror = TableMirror(cast("Responder", responder), self.memory, 0)
        self.counts, self.small = mmap.mmap(descriptors[4], COUNT_SIZE * CPUS), descriptors[2]
        self.counters = [HitCounter((), Origin(DROPPED)) for _ in range(HIT_COUNTERS)]

    def entries(self, number: int, rotations: int = 1) -> list[Entry]:
        """Returns entries as those of Services with one address."""
        out = []
        for at in range(number):
            label = b"service-%05d" % at
            name = bytes((len(label),)) + label + b"\7default\3svc\7cluster\5local\0"
            key = b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
            wires = tuple(
                b"\x85\0\0\1\0\1\0\0\0\0" + key[10:] + bytes(15) + bytes((turn,)) for turn in range(rotations)
            )
            counter = self.counters[at % HIT_COUNTERS]
            out.append(Entry.of(key, wires, float("inf"), (("service", "default", label.decode()),), counter))
        return out

    def use(self, number: int) -> None:
        """Counts a use of each of the first `number` slots, and a hit of each hit counter, as the program does."""
        slots = mmap.mmap(self.small, SMALL_SIZE * SMALL_SLOTS)
        words = memoryview(cast("Any", slots)).cast("Q")
        for slot in range(number):
            words[(slot * SMALL_SIZE + USES_AT) // 8] += 1
        counts = memoryview(cast("Any", self.counts)).cast("Q")
        for counter in range(COUNT_WORDS):
            counts[counter] += 1
        words.release()
        counts.release()
        slots.close()


def timed(step: Callable[[], object]) -> float:
    """Returns the CPU time of a step, in microseconds."""
    began = process_time()
    step()
    return (process_time() - began) * 1e6


def measure(number: int, rounds: int) -> dict[str, float]:
    """Returns the median CPU time of each step, in microseconds. `number` is the number of entries."""
    bench = Bench()
    memory, mirror, table = bench.memory, bench.mirror, bench.table
    entries, few = bench.entries(number), bench.entries(max(1, number // 100), ROTATIONS)
    found: dict[str, list[float]] = {}

    def put(many: list[Entry], where: AnswerTable | TableMirror = mirror) -> None:
        for one in many:
            where.put(one)

    def remove(many: list[Entry]) -> None:
        for one in many:
            mirror.remove(one.key)

    def note(name: str, step: Callable[[], object], times: int) -> None:
        found.setdefault(name, []).append(timed(step) / times)

    for _ in range(rounds):
        table.mirror = None
        note("table.put without a mirror", lambda: put(entries, table), number)
        note("mirror.put", lambda: put(entries), number)
        table.mirror = mirror
        bench.use(number)
        note(f"hits of {HIT_COUNTERS} hit counters, once a second", lambda: list(memory.take_hits()), 1)
        note(f"uses of {number} entries, once a second", lambda: list(memory.take_uses()), 1)
        note("uses, none, once a second", lambda: list(memory.take_uses()), 1)
        note("mirror.remove", lambda: remove(entries), number)
        bench.now += 2
        memory.room(is_large=False)
        put(entries)
        note(f"mirror.clear of {number} entries", mirror.clear, 1)
        bench.now += 2
        memory.room(is_large=False)
        note(f"mirror.put of {ROTATIONS} rotations", lambda: put(few), len(few))
        mirror.clear()
        table.clear()
        bench.now += 2
        memory.room(is_large=False)
    memory.close()
    return {name: median(values) for name, values in found.items()}


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.mirror_costs", description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for name, value in measure(arguments.entries, arguments.rounds).items():
        print(f"{value:10.2f} µs  {name}")


if __name__ == "__main__":
    main()
