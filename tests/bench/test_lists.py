"""The bench of initial lists. Every way of reading a list gives the same objects."""

from __future__ import annotations

import os

import pytest

from bench.lists import WAYS, read, table
from bench.processes import Helper
from svcdns.cluster.watch_options import WatchOptions


async def test_every_way_reads_all_objects() -> None:
    api = Helper("bench.api", "--services", "60", "--endpoints", "2", "--streams", cpus=sorted(os.sched_getaffinity(0)))
    try:
        found = {way: [await read(way, WatchOptions(endpoint=f"http://127.0.0.1:{api.port}"))] for way in WAYS}
    finally:
        api.close()
    assert {way: one["objects"] for way, [one] in found.items()} == dict.fromkeys(WAYS, 170)
    octets = [one["octets"] for [one] in found.values()]
    assert min(octets) == pytest.approx(max(octets), rel=0.1)
    assert [line.split(" |")[0] for line in table(found).splitlines()[2:]] == [f"| {way}" for way in WAYS]
