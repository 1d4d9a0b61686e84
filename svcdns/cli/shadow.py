"""`svcdns shadow`: compares the answers of two servers to the queries of real clients."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.shadow.asking import asking
from svcdns.shadow.comparison import MEANINGS, SERIOUS, Kind
from svcdns.shadow.dnstap_source import LiveQueries, OwnSockets, is_socket, reading
from svcdns.shadow.errors import ShadowError
from svcdns.shadow.queries import read
from svcdns.shadow.run import Outcome, compare

FORMAT = 1

EXAMPLES = """\b
Examples:
  kubectl -n kube-system logs -l k8s-app=kube-dns --tail=-1 > queries.log
  svcdns shadow --reference 10.96.0.10 --candidate 10.96.0.11 queries.log
  tcpdump -i any -w queries.pcap udp dst port 53
  svcdns shadow --reference 10.96.0.10 --candidate 10.96.0.11 queries.pcap --minutes 10
  svcdns shadow --reference 10.96.0.10 --candidate 10.96.0.11 tcp://0.0.0.0:6000 --minutes 10
"""


class Difference(msgspec.Struct, frozen=True):
    """A kind of difference, how often it was found, and its first example. A `serious` difference is a failure."""

    kind: str
    serious: bool
    count: int
    meaning: str
    example: str
    replies: str


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of the time until a reply arrived, in milliseconds."""

    p50: float
    p99: float


class ShadowReport(msgspec.Struct, frozen=True):
    """The result of a comparison.

    `different` counts all differences, `serious` only those that a client would notice.
    `left_out` has the number of unusable items in the file or from the socket, by reason.
    """

    format: int
    compared: int
    different: int
    serious: int
    transient: int
    differences: list[Difference]
    left_out: dict[str, int]
    reference: Latency
    candidate: Latency


@click.command(epilog=EXAMPLES, short_help="Compare two servers by the queries of real clients.")
@click.argument("queries", metavar="FILE")
@click.option("--reference", required=True, metavar="HOST[:PORT]", help="The server that is right by definition.")
@click.option("--candidate", required=True, metavar="HOST[:PORT]", help="The server to be judged.")
@click.option(
    "--minutes",
    type=click.FloatRange(0),
    default=0,
    metavar="N",
    help="Stop after this time.  [default: the whole file]",
)
@click.option(
    "--rate",
    type=click.FloatRange(0),
    default=0,
    metavar="N",
    help="At most this many queries a second.  [default: no limit]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.01),
    default=2.0,
    metavar="S",
    show_default=True,
    help="Seconds to wait for a reply.",
)
@click.option("--tries", type=click.IntRange(1, 10), default=2, show_default=True, help="How often a query is sent.")
@click.option(
    "--ignore",
    multiple=True,
    type=click.Choice([str(kind) for kind in Kind]),
    help="Do not count this kind of difference.",
)
@click.option(
    "--connect", is_flag=True, help="Connect to the socket of a server with 'dnstap listen', in place of listening."
)
@click.option("--strict", is_flag=True, help="Every kind of difference is a failure.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format.")
def shadow(
    queries: str, reference: str, candidate: str, minutes: float, rate: float, timeout: float, tries: int,
    ignore: tuple[str, ...], connect: bool, strict: bool, output: str,
) -> int:  # fmt: skip
    """Sends the queries in FILE to two servers, and compares their replies.

    FILE is a query log (the default format of the plugin log), a packet capture (pcap or pcapng), a file of dnstap
    messages, or a list of lines 'NAME TYPE'. FILE can also be a dnstap socket, unix://PATH or tcp://HOST:PORT, to which
    the server in use connects. The reference is, for example, the CoreDNS in use, and the candidate the svcdns
    beside it.

    Exit code: 0 if no client would notice a difference, 1 if one would, 2 if the comparison could not run.
    """
    try:
        outcome, left_out = asyncio.run(
            _run(queries, reference, candidate, minutes * 60, rate, timeout, tries, connect=connect)
        )
    except ShadowError as failure:
        raise CannotRun(str(failure)) from failure
    if not outcome.compared:
        left = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise CannotRun(f"{queries} has no query{f' ({left})' if left else ''}")
    if not outcome.reference_seconds and SERIOUS.isdisjoint(+outcome.kinds):
        raise CannotRun(f"{reference} replied to none of {outcome.compared} queries")
    for kind in ignore:
        outcome.kinds.pop(Kind(kind), None)
    report = _report(outcome, left_out)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _print(report, reference, candidate)
    return 1 if any(one.serious or strict for one in report.differences) else 0


async def _run(
    source: str, reference: str, candidate: str, limit: float, rate: float, timeout: float, tries: int, *, connect: bool
) -> tuple[Outcome, Mapping[str, int]]:
    """Returns the outcome, and the number of unusable items by reason."""
    async with asking(reference, timeout, tries) as first, asking(candidate, timeout, tries) as second:
        if not is_socket(source):
            found = read(source)
            return await compare(found, first, second, limit=limit, rate=rate), found.left_out
        async with reading(source, OwnSockets(first, second), connects=connect) as live:
            with _stopping_at_interrupt(live):
                return await compare(live, first, second, limit=limit, rate=rate), live.left_out


@contextlib.contextmanager
def _stopping_at_interrupt(live: LiveQueries) -> Iterator[None]:
    """Context manager in which Ctrl-C ends the queries of a socket, so that the report is still printed."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, live.end)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _report(outcome: Outcome, left_out: Mapping[str, int]) -> ShadowReport:
    found = [
        Difference(str(kind), kind in SERIOUS, outcome.kinds[kind], MEANINGS[kind], *outcome.examples[kind])
        for kind in Kind
        if outcome.kinds[kind]
    ]
    serious = sum(one.count for one in found if one.serious)
    latencies: list[Any] = [
        Latency(*(round(outcome.percentile(seconds, share), 3) for share in (0.5, 0.99)))
        for seconds in (outcome.reference_seconds, outcome.candidate_seconds)
    ]
    return ShadowReport(
        FORMAT, outcome.compared, outcome.different, serious, outcome.transient, found, dict(left_out), *latencies
    )


def _print(report: ShadowReport, reference: str, candidate: str) -> None:
    serious = report.serious
    verdict = (
        "no difference that a client would notice"
        if not serious
        else f"{serious} differences that a client would notice"
    )
    click.echo(
        click.style(f"{report.compared} queries compared: {verdict}", fg="red" if serious else "green", bold=True)
    )
    for one in report.differences:
        name = click.style(one.kind, fg="red" if one.serious else "yellow", bold=True)
        click.echo(f"{name}: {one.count} ({one.meaning})")
        click.echo(f"    {one.example}")
        click.echo(f"    {one.replies}")
    if report.transient:
        click.echo(f"transient: {report.transient} (different once, equal when asked again)")
    for reason, count in report.left_out.items():
        click.echo(f"left out: {count}: {reason}")
    for name, latency in ((reference, report.reference), (candidate, report.candidate)):
        click.echo(f"latency of {name}: p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms")
