"""Adds the uses of an answer table's entries, and the durations of its replies, to the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from svcdns.chain.routing import Route
from svcdns.serving.metrics import Durations
from svcdns.serving.responder import Responder

STEP: Final = 64
"""The number of hit counters or entries that one step handles."""
MAX_DROPPED_OCTETS: Final = 16 << 10
"""The octets of replies after which one flush drops no further entry for its uses.

To make a large reply again takes milliseconds, in which other queries wait. So a flush drops few large replies.
"""
MAX_ROTATION_USES: Final = 8
"""After this many uses of each rotation, an entry is dropped, so that its records get a new random order."""


def flush(responder: Responder) -> Iterator[None]:
    """Adds the counts of one responder to the metrics, in steps of a few tenths of a millisecond."""
    table, metrics = responder.table, responder.metrics
    cold, metrics.dirty_cold = metrics.dirty_cold, []
    dirty, table.dirty = cold + table.dirty, []
    rotated, table.rotated = table.rotated, []
    dirty_fast_path, responder.dirty_fast_path = responder.dirty_fast_path, []
    for number, hit_counter in enumerate(dirty_fast_path, 1):
        metrics.add(hit_counter.increments, hit_counter.hits - hit_counter.flushed)
        hit_counter.flushed = hit_counter.hits
        if number % STEP == 0:
            yield
    routes: dict[int, tuple[Route, int]] = {}
    cold_replies = 0
    for number, hit_counter in enumerate(dirty, 1):
        hits = hit_counter.hits - hit_counter.flushed
        cold_replies += hits if number <= len(cold) else 0
        hit_counter.flushed = hit_counter.hits
        metrics.add(hit_counter.increments, hits)
        route = hit_counter.origin.route
        routes[id(route)] = (route, hits + (routes[id(route)][1] if id(route) in routes else 0))
        if number % STEP == 0:
            yield
    octets = 0
    for number, entry in enumerate(rotated, 1):
        details = entry.details
        assert details is not None
        details.flushed_uses = details.uses
        if (
            octets < MAX_DROPPED_OCTETS
            and details.uses > MAX_ROTATION_USES * len(details.wires)
            and table.current.get(entry.key) is entry
        ):
            octets += len(details.wires[0])
            table.drop(entry.key)
        if number % STEP == 0:
            yield
    _flush_hits(responder, list(routes.values()), cold_replies)


def _flush_hits(responder: Responder, routes: list[tuple[Route, int]], cold_replies: int) -> None:
    """Adds the hits to the metrics, and divides the collected durations among the routes in proportion to their hits.

    `cold_replies` is the number of hits that are replies of the cold path (replies without the plugin chain).
    """
    total = sum(hits for _, hits in routes)
    if not total:
        return
    if total > cold_replies:
        responder.metrics.count_table_hits(total - cold_replies)
    taken, responder.durations = responder.durations, Durations()
    values = responder.metrics.counters.values
    carried = 0.0
    for route, hits in routes:
        if not route.counted:
            continue
        cell = responder.metrics.duration_cell(route)
        for bucket, count in enumerate(taken.buckets):
            share = count * hits / total + carried if len(routes) > 1 else count
            whole = int(share + 0.5) if len(routes) > 1 else count
            carried = share - whole
            values[cell + bucket] += whole
        values[cell + len(taken.buckets)] += taken.seconds * hits / total
