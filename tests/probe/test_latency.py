"""The queries of a probe, and how their replies are counted."""

from __future__ import annotations

import pytest

from svcdns.probe.latency import Asked, once, query
from svcdns.probe.measurements import Measurements
from svcdns.shadow.asking import Received


class Replies:
    """A server that has the same reply to all queries."""

    def __init__(self, octets: bytes | None) -> None:
        self._octets = octets

    async def ask(self, packet: bytes) -> Received:
        assert packet == query("a.test", 1)
        return Received(self._octets, 0.003)


@pytest.mark.parametrize(
    ("octets", "count", "reason"),
    [
        pytest.param(b"\x80\0", 1, "", id="NOERROR"),
        pytest.param(b"\x80\3", 1, "", id="NXDOMAIN"),
        pytest.param(b"\x80\2", 0, "SERVFAIL", id="SERVFAIL"),
        pytest.param(None, 0, "timeout", id="no reply"),
    ],
)
async def test_a_reply_is_counted(octets: bytes | None, count: int, reason: str) -> None:
    measurements = Measurements()
    asked = Asked("it", Replies(octets))  # type: ignore[arg-type]
    await once(asked, query("a.test", 1), measurements)
    assert measurements.count("it", "query") == count
    assert measurements.failures("it", "query") == 1 - count
    assert measurements.percentile("it", "query", 0.99) == (0.003 if count else None)
    metric = {"server": "it", "reason": reason}
    value = measurements.registry.get_sample_value("svcdns_probe_failed_queries_total", metric)
    assert value == (1.0 if reason else None)
