"""The metrics and the percentiles of a probe."""

from __future__ import annotations

from svcdns.probe.measurements import Measurements


def test_percentiles_and_metrics() -> None:
    measurements = Measurements()
    for number in range(1, 101):
        measurements.visible("a", "service", number / 1000)
    measurements.missed("b", "service")
    assert measurements.kinds() == [("a", "service"), ("b", "service")]
    assert measurements.percentile("a", "service", 0.5) == 0.051
    assert measurements.percentile("a", "service", 0.99) == 0.1
    assert measurements.percentile("b", "service", 0.99) is None
    sample = measurements.registry.get_sample_value
    labels = {"server": "a", "change": "service"}
    assert sample("svcdns_probe_programming_duration_seconds_count", labels) == 100
    assert sample("svcdns_probe_programming_duration_seconds_bucket", {**labels, "le": "0.016"}) == 16
    assert sample("svcdns_probe_failed_changes_total", {"server": "b", "change": "service"}) == 1
