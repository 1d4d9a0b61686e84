"""Once a second: the hits of the answer tables go into the counters, and durations with them.

It works in slices; between them `breathe` lets the sockets be read, so that no fold holds an answer up.
"""

from __future__ import annotations

from collections.abc import Callable

from svcdns.chain.routing import Route
from svcdns.serving.accounting import Durations
from svcdns.serving.answer_table import Entry
from svcdns.serving.compiling import Desk

SLICE = 256
"""Entries folded between two looks at the clock."""
TIRED = 8
"""Uses of each variant after which a load-balanced entry is compiled anew, in another random order."""


def fold(desk: Desk, breathe: Callable[[], None]) -> None:
    """Adds the hits since the last time of one desk."""
    table, touched = desk.table, desk.table.touched
    table.touched = []
    sums: dict[int, tuple[tuple[tuple[int, float], ...], int]] = {}
    routes: dict[int, tuple[Route, int]] = {}
    for number, entry in enumerate(touched):
        if number % SLICE == SLICE - 1:
            breathe()
        hits = entry.hits - entry.folded
        entry.folded = entry.hits
        _, before = sums.get(id(entry.counts), (None, 0))
        sums[id(entry.counts)] = (entry.counts, before + hits)
        _, before = routes.get(id(entry.route), (None, 0))
        routes[id(entry.route)] = (entry.route, before + hits)
        if isinstance(entry, Entry) and len(entry.wires) > 1 and entry.hits > TIRED * len(entry.wires):
            table.drop(entry.key)
    for number, (counts, hits) in enumerate(sums.values()):
        if number % SLICE == SLICE - 1:
            breathe()
        desk.accounts.add(counts, hits)
    _fold_durations(desk, list(routes.values()))


def _fold_durations(desk: Desk, routes: list[tuple[Route, int]]) -> None:
    """Gives each route its share of the durations: batches mix routes, all packets of one took the same time."""
    total = sum(hits for _, hits in routes)
    if not total:
        return
    taken, desk.durations = desk.durations, Durations()
    values = desk.accounts.counters.values
    owed = 0.0
    for route, hits in routes:
        if not route.counted:
            continue
        cell = desk.accounts.duration_cell(route)
        for bucket, count in enumerate(taken.buckets):
            share = count * hits / total + owed if len(routes) > 1 else count
            whole = int(share + 0.5) if len(routes) > 1 else count
            owed = share - whole
            values[cell + bucket] += whole
        values[cell + len(taken.buckets)] += taken.seconds * hits / total
