"""The metrics page, which has sums over the regions of all processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from svcdns.control import metrics
from svcdns.process.shared_memory import REGION_SIZE, SLOTS, State, control_region, reset
from svcdns.telemetry.counters import Counters, Family, MetricKind

QUERIES = Family("coredns_asked_total", MetricKind.COUNTER, "Asked.", ("who",))
TOOK = Family("coredns_took_seconds", MetricKind.HISTOGRAM, "Took.", (), (0.1, 1.0))
ENTRIES = Family("coredns_held", MetricKind.GAUGE, "Held.")


def page(*regions: memoryview, accept: str = "") -> tuple[list[str], str]:
    """Returns the lines of the metrics in `regions`, and the content type."""
    body, content_type = metrics.page(metrics.registry(list(regions)), accept)
    always = tuple(family.name for family in metrics.OF_PLUGINS)
    lines = [line for line in body.decode().splitlines() if line.startswith("coredns_")]
    return [line for line in lines if not line.startswith(always)], content_type


def test_sums_over_processes() -> None:
    """Counters, gauges and histogram buckets are summed."""
    regions = [memoryview(bytearray(REGION_SIZE)) for _ in range(3)]
    for region, amount in zip(regions, (1, 2, 3), strict=True):
        counters = Counters(region)
        counters.count(QUERIES, "a", amount=amount)
        counters.count(ENTRIES, amount=amount)
        counters.observe(TOOK, counters.cell(TOOK), 0.05 * 10 ** (amount - 1))
        if amount == 3:
            counters.count(QUERIES, 'q"\n')
    lines, content_type = page(*regions)
    assert content_type.startswith("text/plain")
    assert lines == [
        'coredns_asked_total{who="a"} 6.0',
        'coredns_asked_total{who="q\\"\\n"} 1.0',
        "coredns_held 6.0",
        'coredns_took_seconds_bucket{le="0.1"} 1.0',
        'coredns_took_seconds_bucket{le="1"} 2.0',
        'coredns_took_seconds_bucket{le="+Inf"} 3.0',
        "coredns_took_seconds_count 3.0",
        "coredns_took_seconds_sum 5.55",
    ]


def test_a_uniform_family_is_not_summed() -> None:
    """A uniform family has the same value in all processes. The page has the largest value."""
    size = Family("coredns_size", MetricKind.GAUGE, "Size.", uniform=True)
    regions = [memoryview(bytearray(REGION_SIZE)) for _ in range(3)]
    for region, value in zip(regions, (7, 0, 7), strict=True):
        counters = Counters(region)
        counters.set(counters.cell(size), value)
    assert page(*regions)[0] == ["coredns_size 7.0"]


def test_counters_of_an_ended_process_count() -> None:
    region = memoryview(bytearray(REGION_SIZE))
    Counters(region).count(QUERIES, "a", amount=5)
    Counters(region).count(QUERIES, "a")
    assert page(region)[0] == ['coredns_asked_total{who="a"} 6.0']


def test_gauges_of_an_ended_process_do_not_count() -> None:
    regions = [memoryview(bytearray(REGION_SIZE)) for _ in range(2 + SLOTS)]
    for number, amount in ((0, 1), (1, 10), (2, 100), (control_region(1), 1000)):
        counters = Counters(regions[number])
        counters.count(QUERIES, "a", amount=amount)
        counters.count(ENTRIES, amount=amount)
    reset(regions[1], State.ENDED)
    assert page(*regions)[0] == ['coredns_asked_total{who="a"} 1111.0', "coredns_held 101.0"]
    reset(regions[1], State.STARTING)
    Counters(regions[1])
    assert page(*regions)[0] == ['coredns_asked_total{who="a"} 1111.0', "coredns_held 101.0"]


def test_openmetrics_on_request() -> None:
    """The Accept header of the request asks for OpenMetrics."""
    region = memoryview(bytearray(REGION_SIZE))
    Counters(region).count(QUERIES, "a")
    body, content_type = metrics.page(metrics.registry([region]), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_processes() -> None:
    """The process metrics are sums over the parent of this process and its children."""
    body, _ = metrics.page(metrics.registry([]), "")
    found = dict(re.findall(r"^(process_\w+) (\S+)$", body.decode(), re.MULTILINE))
    assert float(found["process_resident_memory_bytes"]) > 1 << 20
    assert float(found["process_start_time_seconds"]) > 1e9
    assert set(found) == {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_virtual_memory_max_bytes",
        "process_start_time_seconds",
        "process_network_receive_bytes_total",
        "process_network_transmit_bytes_total",
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("TcpExt: A\nTcpExt: 1\nIpExt: X InOctets OutOctets\nIpExt: 5 7 9\n", (7, 9), id="octets"),
        pytest.param("IpExt: X\nIpExt: 5\n", (0, 0), id="no such counters"),
        pytest.param("IpExt: X Y\nIpExt: 5\n", (0, 0), id="another form"),
        pytest.param("", (0, 0), id="empty"),
        pytest.param(None, (0, 0), id="no file"),
    ],
)
def test_octets_of_the_network(tmp_path: Path, text: str | None, wanted: tuple[float, float]) -> None:
    """If the kernel's file is missing or has another form, the octets are 0."""
    if text is not None:
        (tmp_path / "netstat").write_text(text)
    assert metrics._network_octets(tmp_path / "netstat") == wanted


def test_bounds_are_those_of_the_format() -> None:
    """As in CoreDNS, whole numbers have no decimal point, except in OpenMetrics."""
    region = memoryview(bytearray(REGION_SIZE))
    counters = Counters(region)
    counters.observe(TOOK, counters.cell(TOOK), 0.05)
    assert 'coredns_took_seconds_bucket{le="1.0"} 1.0' in page(region, accept="application/openmetrics-text")[0]
    assert 'coredns_took_seconds_bucket{le="1"} 1.0' in page(region)[0]


def test_the_limits_of_the_processes() -> None:
    body, _ = metrics.page(metrics.registry([memoryview(bytearray(REGION_SIZE))]), "")
    values = {line.split()[0]: float(line.split()[1]) for line in body.decode().splitlines() if line[0] != "#"}
    assert values["process_max_fds"] >= values["process_open_fds"] > 0
    assert values["process_virtual_memory_max_bytes"] >= values["process_virtual_memory_bytes"] > 0
