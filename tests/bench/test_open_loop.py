"""The open-loop asker, against a server in the test."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator

import pytest

from bench.asking import packet
from bench.open_loop import Sample, ask, percentile


@pytest.fixture
def forgetful() -> Iterator[int]:
    """The port of a server that sends back all packets but every fourth."""
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
        thread.join(5)


def test_questions_leave_on_time_and_losses_show(forgetful: int) -> None:
    """All are sent, whatever comes back; what does not come back is infinitely late."""
    sample = ask(forgetful, [packet("a.test")], rate=2000, seconds=0.1, clients=8)
    assert len(sample.sent) == len(sample.latency) == 200
    assert sample.lost == 50
    assert [number for number, late in enumerate(sample.latency) if math.isinf(late)] == list(range(0, 200, 4))
    assert all(0 < late < 5 for late in sample.latency if not math.isinf(late))
    assert list(sample.sent) == sorted(sample.sent)


def test_only_what_left_within_counts() -> None:
    """Both ends of a span belong to it."""
    sample = Sample([1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.2, math.inf, 0.4, 0.5])
    assert sample.within([(2.0, 3.0), (4.5, 9.0)]) == Sample([2.0, 3.0, 5.0], [0.2, math.inf, 0.5])
    assert sample.within([(2.0, 3.0)]).lost == 1


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3.0, 1.0, 2.0, 4.0], 0.5, 2.0), ([1.0, 2.0, 3.0, 4.0], 0.99, 4.0), ([7.0], 0.5, 7.0), ([1.0, math.inf], 0.99, math.inf)],
)
def test_percentiles_are_values_that_occurred(values: list[float], share: float, expected: float) -> None:
    """Nearest rank; a lost question counts as the largest."""
    assert percentile(values, share) == expected


def test_nothing_has_no_percentile() -> None:
    """Not even zero."""
    assert math.isnan(percentile([], 0.5))
