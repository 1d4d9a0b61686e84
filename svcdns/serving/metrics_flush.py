"""Once a second: the hits of the answer tables go into the counters, and durations with them.

It works in slices; between them `breathe` lets the sockets be read, so that no fold holds an answer up.
"""

from __future__ import annotations

from collections.abc import Callable

from svcdns.chain.routing import Route
from svcdns.serving.metrics import Durations
from svcdns.serving.responder import Desk

SLICE = 256
"""Tallies or entries folded between two looks at the clock."""
TIRED = 8
"""Uses of each variant after which a load-balanced entry is compiled anew, in another random order."""


def fold(desk: Desk, breathe: Callable[[], object]) -> None:
    """Adds the hits since the last time of one desk."""
    table, touched, turning = desk.table, desk.table.touched, desk.table.turning
    table.touched, table.turning = [], []
    relayed, desk.relayed = desk.relayed, []
    for tally in relayed:
        desk.accounts.add(tally.counts, tally.hits - tally.folded)
        tally.folded = tally.hits
    routes: dict[int, tuple[Route, int]] = {}
    for number, tally in enumerate(touched):
        if number % SLICE == SLICE - 1:
            breathe()
        hits = tally.hits - tally.folded
        tally.folded = tally.hits
        desk.accounts.add(tally.counts, hits)
        _, before = routes.get(id(tally.route), (None, 0))
        routes[id(tally.route)] = (tally.route, before + hits)
    for number, entry in enumerate(turning):
        if number % SLICE == SLICE - 1:
            breathe()
        entry.turned = entry.uses
        if entry.uses > TIRED * len(entry.wires):
            table.drop(entry.key)
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
