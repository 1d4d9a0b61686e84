"""`svcdns conformance`: checks the responses of a cluster DNS server, which may be svcdns or any other."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence

from svcdns.cli import conformance_report as report
from svcdns.conformance import sources
from svcdns.conformance.api import api_of
from svcdns.conformance.check import Check
from svcdns.conformance.checks import CHECKS
from svcdns.conformance.client import Server
from svcdns.conformance.cluster_model import Cluster, from_manifests
from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.examiner import Examiner
from svcdns.conformance.lab import lab
from svcdns.conformance.runner import conforms
from svcdns.conformance.runner import run as run_checks
from svcdns.errors import SvcdnsError
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Returns the parser for the arguments of `svcdns conformance`."""
    out = argparse.ArgumentParser(
        prog="svcdns conformance",
        allow_abbrev=False,
        description="Tests a cluster DNS server by its responses.",
        epilog="Exit code: 0 if every required check passes, 1 if one fails, 2 if the checks could not run.",
    )
    out.add_argument("-help", action="help", help=argparse.SUPPRESS)
    out.add_argument("--server", metavar="HOST[:PORT]", help="the server to check; the default port is 53")
    out.add_argument("--zone", default="cluster.local", help="the cluster's zone (default: %(default)s)")
    out.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="create a namespace with a Service of every kind through this API server, and delete it at the end",
    )
    out.add_argument(
        "--context", default="", metavar="NAME", help="context of the kubeconfig (default: its current one)"
    )
    out.add_argument(
        "--manifests", nargs="+", metavar="PATH", help="read the cluster from these YAML files and folders"
    )
    out.add_argument(
        "--existing",
        action="store_true",
        help="change nothing: check the existing Services, read with --kubeconfig if it is given",
    )
    out.add_argument(
        "--only", action="append", default=[], metavar="ID", help="run only this check or group; may be repeated"
    )
    out.add_argument(
        "--output", choices=("table", "json", "junit"), default="table", help="output format (default: %(default)s)"
    )
    out.add_argument("--list", action="store_true", help="list the checks, and exit")
    out.add_argument(
        "--timeout",
        type=_seconds,
        default=2.0,
        metavar="S",
        help="seconds for one attempt of a query (default: %(default)s)",
    )
    out.add_argument(
        "--bound",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="seconds within which a change must show (default: %(default)s)",
    )
    out.add_argument(
        "--wait",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="seconds within which the server must answer, and then serve new Services (default: %(default)s)",
    )
    out.add_argument(
        "--time-limit", type=_seconds, default=300.0, metavar="S", help="seconds of all checks (default: %(default)s)"
    )
    return out


def run(argv: Sequence[str]) -> int:
    """Runs `svcdns conformance` with the arguments `argv`, and returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        checks = _selected(arguments.only)
        if arguments.list:
            report.explain(checks)
            return 0
        _check_combination(arguments)
        host, port = address(arguments.server)
        zone = _zone(arguments.zone)
        return asyncio.run(
            _interruptible(_run_checks(arguments, Server(host, port, timeout=arguments.timeout), zone, checks))
        )
    except asyncio.CancelledError:
        sys.stderr.write("svcdns conformance: interrupted\n")
        return INTERRUPTED
    except SvcdnsError as error:
        sys.stderr.write(f"svcdns conformance: {error}\n")
        return 2


def _check_combination(arguments: argparse.Namespace) -> None:
    if not arguments.server:
        raise ConformanceError("--server HOST[:PORT] is missing: it names the server to check")
    if arguments.manifests and (arguments.kubeconfig or arguments.existing):
        raise ConformanceError("--manifests cannot be combined with --kubeconfig or --existing")
    if not (arguments.manifests or arguments.kubeconfig or arguments.existing):
        raise ConformanceError(
            "one of --kubeconfig FILE, --manifests PATH and --existing is needed: it describes the cluster"
        )


def address(text: str) -> tuple[str, int]:
    """Parses `HOST`, `HOST:PORT`, `[IPv6]:PORT` or an IPv6 address into host and port. Raises ConformanceError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ConformanceError(f"--server {text}: expected HOST or HOST:PORT with a port from 1 to 65535")
    return host, int(port)


def _zone(text: str) -> str:
    try:
        return names.to_text(names.from_text(text)).lower()
    except NameTextError as error:
        raise ConformanceError(f"--zone {text}: {error}") from error


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _selected(only: Sequence[str]) -> list[Check]:
    groups = {check.group for check in CHECKS.values()}
    for name in only:
        if name not in CHECKS and name not in groups:
            raise ConformanceError(
                f"--only {name}: expected a check or one of the groups {', '.join(sorted(groups))}; see --list"
            )
    return [check for check in CHECKS.values() if not only or check.name in only or check.group in only]


async def _interruptible(work: Coroutine[object, object, int]) -> int:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: None if task.cancelling() else task.cancel())
    return await task


async def _run_checks(arguments: argparse.Namespace, server: Server, zone: str, checks: Sequence[Check]) -> int:
    cluster = from_manifests(arguments.manifests) if arguments.manifests else Cluster()
    await server.resolve()
    examiner = Examiner(server, zone, cluster, random.Random())
    with report.Progress(checks, quiet=arguments.output != "table") as progress:
        progress.say(f"waiting until {server.host} port {server.port} answers")
        await sources.until_answering(server, zone, arguments.wait)
        progress.say("")
        async with _with_cluster(arguments, examiner, progress):
            results = await run_checks(examiner, checks, limit=arguments.time_limit, on_result=progress.done)
            progress.say("deleting the namespace" if examiner.lab else "")
    report.show(results, arguments.output, server=f"{server.host} port {server.port}", zone=zone)
    return 0 if conforms(results) else 1


@contextlib.asynccontextmanager
async def _with_cluster(
    arguments: argparse.Namespace, examiner: Examiner, progress: report.Progress
) -> AsyncIterator[None]:
    """Sets the model of the cluster in `examiner`.

    Services that this command creates are deleted when the context ends.
    """
    if arguments.manifests:
        yield
    elif arguments.kubeconfig is None:
        examiner.cluster = await sources.discover(examiner)
        yield
    else:
        async with api_of(arguments.kubeconfig, arguments.context) as api:
            if arguments.existing:
                examiner.cluster = await sources.read_cluster(api)
                yield
            else:
                progress.say("creating Services")
                async with lab(api, arguments.bound, examiner.random) as (examiner.lab, examiner.cluster):
                    progress.say("waiting until they are served")
                    await sources.until_served(examiner, arguments.wait)
                    progress.say("")
                    yield
