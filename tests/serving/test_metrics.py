"""The metrics that each answered query increments (docs/behaviour/server.md#metrics-of-queries)."""

from __future__ import annotations

import pytest

from svcdns.chain.routing import DROPPED, Route
from svcdns.plugin_api.reply import Reply
from svcdns.serving.metrics import DURATIONS, MAX_HIT_COUNTERS, SIZES, QueryMetrics, is_counted
from svcdns.telemetry.counters import Counters, samples
from svcdns.wire.codes import Rcode
from tests.support import world

ROUTE = Route(b"\0", ".", None, counted=True, writer="errors")


@pytest.mark.parametrize(
    ("rtype", "label"),
    [("A", "A"), ("HTTPS", "HTTPS"), ("SRV", "SRV"), ("HINFO", "other"), ("CAA", "other")],
)
def test_rare_types_are_labelled_other(rtype: str, label: str) -> None:
    """The number of label values stays small."""
    counters = Counters()
    metrics = QueryMetrics(counters, "dns://:53", "udp", 1)
    metrics.add(metrics.increments(world.query("a.", rtype), ROUTE, Reply()))
    assert world.counted(counters)["coredns_dns_requests_total", "dns://:53", ".", "", "udp", "1", label] == 1


def test_all_increments_of_a_reply() -> None:
    """A reply is counted in the metrics of requests, responses, sizes and the DO bit."""
    counters = Counters()
    metrics = QueryMetrics(counters, "dns://:53", "tcp", 2)
    query = world.query("a.", edns=world.edns(dnssec_ok=True), size=120)
    metrics.add(
        metrics.increments(query, ROUTE, Reply(rcode=Rcode.NXDOMAIN)) + metrics.sizes(ROUTE, query.size, 513), 2
    )
    metrics.add(
        metrics.increments(query, ROUTE, Reply(rcode=Rcode.SERVFAIL, has_message=False))
        + metrics.sizes(ROUTE, query.size, 40)
    )
    where = ("dns://:53", ".", "")
    found = world.counted(counters)
    assert found["coredns_dns_requests_total", *where, "tcp", "2", "A"] == 3
    assert found["coredns_dns_responses_total", *where, "NXDOMAIN", "errors"] == 2
    assert found["coredns_dns_responses_total", *where, "SERVFAIL", ""] == 1
    assert found["coredns_dns_do_requests_total", *where] == 3
    sums = {sample.family.name: sample.cells for sample in samples(counters._region)}
    assert sums["coredns_dns_request_size_bytes"][-1] == 360
    assert sums["coredns_dns_response_size_bytes"][SIZES.index(1023.0)] == 2


def test_all_query_types_make_few_series() -> None:
    """Clients may send all 65,536 types."""
    counters = Counters()
    metrics = QueryMetrics(counters, "dns://:53", "udp", 1)
    for rtype in range(1 << 16):
        metrics.increments_of(ROUTE, rtype, Rcode.NOERROR, "errors", dnssec_ok=bool(rtype & 1))
    assert len(metrics._increments) <= 2 * 20
    assert len(world.counted(counters)) <= 20 + 2


def test_all_response_codes_make_few_series() -> None:
    """Upstreams may send all 4,096 response codes. Those without a mnemonic have the label `other`."""
    counters = Counters()
    metrics = QueryMetrics(counters, "dns://:53", "udp", 1)
    for rcode in range(1 << 12):
        metrics.add(metrics.increments_of(ROUTE, 1, rcode, "errors", dnssec_ok=False))
    known = len(Rcode.__members__)
    assert len(metrics._increments) == known + 1
    found = world.counted(counters)
    where = ("coredns_dns_responses_total", "dns://:53", ".", "")
    assert len([key for key in found if key[0] == where[0]]) == known + 1
    assert found[*where, "REFUSED", "errors"] == 1
    assert found[*where, "other", "errors"] == 4096 - known


def test_equal_increments_share_a_hit_counter() -> None:
    """Few hit counters serve many entries. Each route has its own hit counters."""
    metrics = QueryMetrics(Counters(), "dns://:53", "udp", 1)
    one, other = (
        metrics.hit_counter(metrics.increments(world.query(name), ROUTE, Reply()) + metrics.sizes(ROUTE, 40, 50), ROUTE)
        for name in ("a.", "b.")
    )
    assert one is other
    assert metrics.hit_counter(one.increments, DROPPED) is not one


def test_hit_counters_are_bounded() -> None:
    """Clients can cause many combinations of sizes."""
    metrics = QueryMetrics(Counters(), "dns://:53", "udp", 1)
    for size in range(MAX_HIT_COUNTERS + 10):
        metrics.hit_counter(metrics.sizes(ROUTE, size, size), ROUTE)
    assert len(metrics._hit_counters) <= MAX_HIT_COUNTERS


def test_durations() -> None:
    """Durations are counted in CoreDNS's buckets, once for each query of a batch."""
    counters = Counters()
    metrics = QueryMetrics(counters, "dns://:53", "udp", 1)
    metrics.observe_duration(ROUTE, 0.0004, 3)
    metrics.observe_duration(ROUTE, 100.0)
    (cells,) = [sample.cells for sample in samples(counters._region)]
    assert cells[1] == 3
    assert cells[len(DURATIONS)] == 1
    assert cells[-1] == pytest.approx(100.0012)


def test_counted_routes() -> None:
    """Counted queries are those to blocks with *prometheus*, and those that are refused before a block is chosen."""
    assert is_counted(ROUTE)
    assert is_counted(DROPPED)
    assert not is_counted(Route(b"\0", ".", None))
