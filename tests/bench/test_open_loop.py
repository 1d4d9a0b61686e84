"""The bench's load generator, which sends at a fixed rate and does not wait for replies."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator

import pytest

from bench.client import make_query
from bench.open_loop import Sample, generate, percentile


@pytest.fixture
def lossy_server() -> Iterator[int]:
    """Runs a server that drops every fourth packet and returns the others. Yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, sender = server.recvfrom(4096)
                if data == b"end":
                    return
                if data[1] % 4:
                    server.sendto(data, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.sendto(b"end", server.getsockname())
        thread.join(20)


def test_queries_at_a_fixed_rate_and_losses(lossy_server: int) -> None:
    """A lost query has an infinite latency."""
    sample = generate(lossy_server, [make_query("a.test")], rate=2000, seconds=0.1, clients=8)
    assert len(sample.sent) == len(sample.latency) == 200
    assert sample.lost == 50
    assert [number for number, latency in enumerate(sample.latency) if math.isinf(latency)] == list(range(0, 200, 4))
    assert all(0 < latency < 30 for latency in sample.latency if not math.isinf(latency))
    assert list(sample.sent) == sorted(sample.sent)


def test_queries_within_spans() -> None:
    sample = Sample([1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.2, math.inf, 0.4, 0.5])
    assert sample.within([(2.0, 3.0), (4.5, 9.0)]) == Sample([2.0, 3.0, 5.0], [0.2, math.inf, 0.5])
    assert sample.within([(2.0, 3.0)]).lost == 1


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, 1.0, 2.0, 4.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.99, 4.0),
        ([7.0], 0.5, 7.0),
        ([1.0, math.inf], 0.99, math.inf),
    ],
)
def test_percentiles_by_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_percentile_without_values() -> None:
    assert math.isnan(percentile([], 0.5))
