"""`svcdns probe`: measures the two Kubernetes SLIs of DNS from a client's side."""

from __future__ import annotations

import asyncio
from typing import Final

import click
import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.cli.types import ZONE
from svcdns.probe.errors import ProbeError
from svcdns.probe.measurements import Measurements
from svcdns.probe.run import Plan, run
from svcdns.shadow.errors import ShadowError

FORMAT: Final = 1
EXAMPLES = """\b
Examples:
  svcdns probe --server 10.96.0.10 --minutes 1
  svcdns probe --server 10.244.1.7 --server 10.244.2.9 --namespace default --listen 0.0.0.0:9353
  svcdns probe --server 127.0.0.1:5300 --seconds 10 --max-query-p99 30 --output json
"""


class Figures(msgspec.Struct, frozen=True):
    """The results of one kind of measurement for one server.

    `kind` is `query`, `service` or `endpoint`. `reasons` counts the failed queries by reason.
    The percentiles are in milliseconds, and None if nothing succeeded.
    """

    server: str
    kind: str
    count: int
    failures: int
    p50: float | None
    p99: float | None
    reasons: dict[str, int] = {}


class ProbeReport(msgspec.Struct, frozen=True):
    """The result of a probe. `too_slow` has a sentence for each bound that was exceeded."""

    format: int
    results: list[Figures]
    too_slow: list[str]


@click.command(epilog=EXAMPLES, short_help="Measure the latency of answers and of changes.")
@click.option("--server", "servers", multiple=True, required=True, metavar="HOST[:PORT]", help="A server to measure.")
@click.option(
    "--name",
    type=ZONE,
    default="kubernetes.default.svc.cluster.local.",
    show_default=True,
    help="The name that is queried.",
)
@click.option("--rate", type=click.FloatRange(0.01, 1000), default=5.0, show_default=True, help="Queries a second.")
@click.option("--timeout", type=click.FloatRange(0.01), default=5.0, show_default=True, help="Seconds for a reply.")
@click.option(
    "--minutes", type=click.FloatRange(0), default=0, metavar="N", help="Stop after this time.  [default: never]"
)
@click.option("--seconds", type=click.FloatRange(0), default=0, metavar="N", help="Seconds in addition to --minutes.")
@click.option("--listen", default="", metavar="HOST:PORT", help="Serve metrics for Prometheus at /metrics.")
@click.option("--namespace", default="", help="Measure changes too, with two Services in this namespace.")
@click.option(
    "--every", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds between changes of an object."
)
@click.option("--zone", type=ZONE, default="cluster.local.", show_default=True, help="The cluster zone.")
@click.option("--kubeconfig", default="", help="The kubeconfig for --namespace.  [default: as kubectl]")
@click.option("--context", default="", help="The context of the kubeconfig.")
@click.option("--max-query-p99", type=float, metavar="MS", help="Exit with 1 if p99 of queries is larger.")
@click.option("--max-programming-p99", type=float, metavar="MS", help="Exit with 1 if p99 of changes is larger.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format.")
def probe(
    servers: tuple[str, ...], name: str, rate: float, timeout: float, minutes: float, seconds: float, listen: str,
    namespace: str, every: float, zone: str, kubeconfig: str, context: str, max_query_p99: float | None,
    max_programming_p99: float | None, output: str,
) -> int:  # fmt: skip
    """Measures DNS as a client sees it: the latency of queries, and the time until a change has a new answer.

    With --namespace, the probe creates a Service of type ExternalName and a headless Service, changes them again and
    again, and deletes them at its end. For that, its user must be allowed to create, patch and delete Services and
    EndpointSlices in the namespace. Name each Pod of the DNS server with --server: behind the address of a Service,
    each query may reach another Pod.

    Exit code: 0 if all went well, 1 if a bound is exceeded or something failed, 2 if the probe could not run.
    """
    measurements = Measurements()
    plan = Plan(
        servers, name, rate, timeout, minutes * 60 + seconds, listen, namespace, zone, every, kubeconfig, context
    )
    try:
        asyncio.run(run(plan, measurements))
    except (ProbeError, ShadowError) as failure:
        raise CannotRun(str(failure)) from failure
    report = _report(measurements, {"query": max_query_p99}, max_programming_p99)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _print(report)
    return 1 if report.too_slow or any(one.failures for one in report.results) else 0


def _report(
    measurements: Measurements, bounds: dict[str, float | None], programming_bound: float | None
) -> ProbeReport:
    results, too_slow = [], []
    for server, kind in measurements.kinds():
        p50, p99 = (
            None if value is None else round(value * 1000, 3)
            for value in (measurements.percentile(server, kind, share) for share in (0.5, 0.99))
        )
        count, failures = measurements.count(server, kind), measurements.failures(server, kind)
        results.append(Figures(server, kind, count, failures, p50, p99, measurements.reasons(server, kind)))
        bound = bounds.get(kind, programming_bound)
        if bound is not None and (p99 is None or p99 > bound):
            too_slow.append(f"{server}: p99 of {kind} is {'unknown' if p99 is None else f'{p99} ms'}, not {bound:g} ms")
    return ProbeReport(FORMAT, results, too_slow)


def _print(report: ProbeReport) -> None:
    what = {"query": "queries", "service": "changes of a Service", "endpoint": "changes of an endpoint"}
    for one in report.results:
        times = "" if one.p50 is None else f", p50 {one.p50:.2f} ms, p99 {one.p99:.2f} ms"
        why = ", ".join(f"{reason} {count}" for reason, count in one.reasons.items())
        text = f", {one.failures} failed" + (f" ({why})" if why else "")
        failed = click.style(text, fg="red") if one.failures else ""
        click.echo(f"{one.server}: {one.count} {what[one.kind]}{times}{failed}")
    for text in report.too_slow:
        click.echo(click.style(text, fg="red", bold=True))
