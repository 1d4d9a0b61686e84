"""The options of `trace`, as CoreDNS reads them."""

from __future__ import annotations

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse as parse_corefile
from svcdns.plugin_api.environment import Block
from svcdns.plugins.trace import Options, parse


def options(text: str) -> Options:
    (block,) = parse_corefile(f".:53 {{\n{text}\n}}", "Corefile", environ={}).blocks
    return parse(Block(directives=block.directives, keys=block.keys, zones=(".",)))


@pytest.mark.parametrize(
    ("text", "kind", "url"),
    [
        ("trace", "zipkin", "http://localhost:9411/api/v2/spans"),
        ("trace tracing:9253", "zipkin", "http://tracing:9253/api/v2/spans"),
        ("trace Zipkin tracing:9253", "zipkin", "http://tracing:9253/api/v2/spans"),
        ("trace https://proxy/zipkin/api/v2/spans", "zipkin", "https://proxy/zipkin/api/v2/spans"),
        ("trace datadog agent:8126", "datadog", "http://agent:8126/v0.4/traces"),
        ("trace datadog http://agent:8126", "datadog", "http://agent:8126/v0.4/traces"),
        ("trace otlp [::1]:4318", "otlp", "http://[::1]:4318/v1/traces"),
        ("trace otlp https://tempo/v1/traces", "otlp", "https://tempo/v1/traces"),
        ("trace first:1\ntrace otlp second:2", "otlp", "http://second:2/v1/traces"),
    ],
)
def test_endpoints(text: str, kind: str, url: str) -> None:
    """A host and port get the path of their type. The last endpoint is used."""
    found = options(text).collector
    assert (found.kind, found.url) == (kind, url)


def test_defaults() -> None:
    """Without options, every query is traced, as the service `coredns`."""
    found = options("trace")
    collector = found.collector
    assert (found.every, found.client_server, collector.service) == (1, False, "coredns")
    assert (collector.backlog, collector.batch, collector.interval) == (1000, 100, 1.0)


def test_all_options() -> None:
    """Each option sets its field. An option of an earlier directive stays."""
    found = options(
        "trace {\n every 100\n service dns\n client_server\n datadog_analytics_rate 0.25\n}\n"
        "trace {\n zipkin_max_backlog_size 50\n zipkin_max_batch_size 7\n zipkin_max_batch_interval 200ms\n}"
    )
    collector = found.collector
    assert (found.every, found.client_server) == (100, True)
    assert (collector.service, collector.analytics_rate) == ("dns", 0.25)
    assert (collector.backlog, collector.batch, collector.interval) == (50, 7, 0.2)


def test_zero_means_the_default() -> None:
    """As in CoreDNS, the size 0 and the interval 0 have no effect. `every 0` traces no query."""
    text = "trace {\n every 0\n client_server F\n zipkin_max_backlog_size 0\n zipkin_max_batch_interval 0\n}"
    assert options(text) == Options(every=0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("trace jaeger x:1", "tracing endpoint type 'jaeger' is not supported"),
        ("trace a b c", "argument"),
        ("trace http://", "is not an endpoint"),
        ("trace host:99999", "is not an endpoint"),
        ("trace {\n every -1\n}", "out of range"),
        ("trace {\n every\n}", "argument"),
        ("trace {\n client_server maybe\n}", "truth value"),
        ("trace {\n datadog_analytics_rate 1.5\n}", "between 0 and 1, '1.5' is not supported"),
        ("trace {\n datadog_analytics_rate nan\n}", "between 0 and 1"),
        ("trace {\n zipkin_max_batch_interval -1s\n}", "negative"),
        ("trace {\n evry 5\n}", "unknown property 'evry' \\(did you mean 'every'"),
    ],
)
def test_errors(text: str, error: str) -> None:
    """Wrong words are errors with their position."""
    with pytest.raises(CorefileError, match=error):
        options(text)
