"""Once a second: the hits of the answer tables go into the counters, and durations with them.

It works in slices; between them `poll_sockets` lets the sockets be read, so that no fold holds an answer up.
"""

from __future__ import annotations

from collections.abc import Callable

from svcdns.chain.routing import Route
from svcdns.serving.metrics import Durations
from svcdns.serving.responder import Responder

SLICE = 256
"""Tallies or entries folded between two looks at the clock."""
TIRED = 8
"""Uses of each variant after which a load-balanced entry is compiled anew, in another random order."""


def fold(responder: Responder, poll_sockets: Callable[[], object]) -> None:
    """Adds the hits since the last time of one desk."""
    table, touched, turning = responder.table, responder.table.touched, responder.table.turning
    table.touched, table.turning = [], []
    relayed, responder.relayed = responder.relayed, []
    for hit_counter in relayed:
        responder.accounts.add(hit_counter.increments, hit_counter.hits - hit_counter.flushed)
        hit_counter.flushed = hit_counter.hits
    routes: dict[int, tuple[Route, int]] = {}
    for number, hit_counter in enumerate(touched):
        if number % SLICE == SLICE - 1:
            poll_sockets()
        hits = hit_counter.hits - hit_counter.flushed
        hit_counter.flushed = hit_counter.hits
        responder.accounts.add(hit_counter.increments, hits)
        _, before = routes.get(id(hit_counter.route), (None, 0))
        routes[id(hit_counter.route)] = (hit_counter.route, before + hits)
    for number, entry in enumerate(turning):
        if number % SLICE == SLICE - 1:
            poll_sockets()
        entry.turned = entry.uses
        if entry.uses > TIRED * len(entry.wires):
            table.drop(entry.key)
    _fold_durations(responder, list(routes.values()))


def _fold_durations(responder: Responder, routes: list[tuple[Route, int]]) -> None:
    """Gives each route its share of the durations: batches mix routes, all packets of one took the same time."""
    total = sum(hits for _, hits in routes)
    if not total:
        return
    taken, responder.durations = responder.durations, Durations()
    values = responder.accounts.counters.values
    owed = 0.0
    for route, hits in routes:
        if not route.counted:
            continue
        cell = responder.accounts.duration_cell(route)
        for bucket, count in enumerate(taken.buckets):
            share = count * hits / total + owed if len(routes) > 1 else count
            whole = int(share + 0.5) if len(routes) > 1 else count
            owed = share - whole
            values[cell + bucket] += whole
        values[cell + len(taken.buckets)] += taken.seconds * hits / total
