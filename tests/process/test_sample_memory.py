"""The rings of samples, which come after the page of cookie secrets in the shared memory."""

from __future__ import annotations

import os

from svcdns.process import cookie_secrets, sample_memory, shared_memory
from svcdns.process.shared_memory import worker_region
from svcdns.telemetry.counters import Counters, Family, MetricKind

METRIC = Family("m_total", MetricKind.COUNTER, "A metric.")


def test_control_reads_the_rings_of_workers_that_have_run() -> None:
    fd = shared_memory.create()
    cookie_secrets.add(fd)
    secrets = cookie_secrets.page(fd)[: cookie_secrets.BASE_SIZE].tobytes()
    sample_memory.add(fd)
    regions = shared_memory.regions(fd)
    rings = sample_memory.WorkerRings(fd, regions)
    assert rings() == []
    number = worker_region(3, 1)
    Counters(regions[number]).count(METRIC)
    sample_memory.ring(fd, number)[7] = 9
    assert [ring[7] for ring in rings()] == [9]
    assert len(rings()[0]) == sample_memory.RING_SIZE
    assert cookie_secrets.page(fd)[: cookie_secrets.BASE_SIZE].tobytes() == secrets
    os.close(fd)


def test_a_mapping_without_rings() -> None:
    fd = shared_memory.create()
    one, other = sample_memory.ring(fd, 1), sample_memory.ring(fd, 1)
    one[0] = 1
    assert other[0] == 0
    assert sample_memory.WorkerRings(fd, shared_memory.regions(fd))() == []
    os.close(fd)
