"""The cost of failing upstreams: `python -m bench.upstream_failures [silent] [all-silent] [lying]`.

The server has two upstreams. In `silent`, one of them stops answering for a while. In `all-silent`, both do, while
clients send 100,000 queries for uncached names; other clients query names of the cluster. In `lying`, both send wrong
packets over UDP, and answer correctly over TCP. The server runs on the first core, all other programs on the last.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import dnsperf, machine, peers, queries
from bench.client import Client, make_query, write_queries
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Load
from bench.open_loop import Sample, generate, percentile
from bench.processes import Helper, PssSampler, cpu_seconds, free_ports, until
from bench.results import OURS
from bench.servers import Cores, Server
from bench.upstream import LIES

LEAD, FAULT, AFTER = 4.0, 10.0, 6.0
"""Seconds of load before, during and after the failure of an upstream."""
RATE = 2_000
NAMES = 100_000
FLOOD_RATE = 5_000
CLUSTER_RATE = 500
LIE_RATE, LIE_SECONDS = 500, 6.0
"""Queries a second, and seconds, for each lie."""
PEERS = (OURS, "coredns", "unbound")

Figures = dict[str, str]


@dataclass(frozen=True)
class ForwardingSetup:
    """A server and its two upstreams."""

    server: Server
    upstreams: Sequence[Helper]

    def drop_queries(self, *which: int) -> None:
        """Makes the upstreams with these numbers (0 or 1) drop all queries over UDP."""
        for number in which:
            self.upstreams[number].request("drop")

    def answer_queries(self, *which: int) -> None:
        """Makes the upstreams with these numbers (0 or 1) answer again."""
        for number in which:
            self.upstreams[number].request("answer")


@contextmanager
def forwarding_setup(name: str, cores: Cores, services: int, *, max_concurrent: bool) -> Iterator[ForwardingSetup]:
    """Context manager that starts a server with two upstreams, and stops them at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="svcdns-bench-")))
        upstreams = [Helper("bench.upstream", cpus=cores.client) for _ in range(2)]
        for one in upstreams:
            stack.callback(one.close)
        api = (
            Helper("bench.api", "--services", str(services), "--endpoints", "1", cpus=cores.client)
            if name in peers.WATCHERS
            else None
        )
        port, *http_ports = free_ports(4)
        config = peers.ServerConfig(
            Cluster(services), port, upstreams[0].port, api.port if api else 0, 1,
            dict(zip(("health", "ready", "metrics"), http_ports, strict=True)), (upstreams[1].port,), max_concurrent=max_concurrent,
        )  # fmt: skip
        server = Server(name, config, folder, cores, api)
        stack.callback(server.stop)
        server.wait()
        yield ForwardingSetup(server, upstreams)


def silent(setup: ForwardingSetup) -> Figures:
    """One of two upstreams stops answering for a while, under a steady rate of queries for uncached names."""
    names = [make_query(line.split()[0]) for line in queries.new_external(int(RATE * (LEAD + FAULT + AFTER)) + RATE)]
    moments: list[float] = []
    recovery = [f"not in {AFTER - 1:g}"]

    def disturb() -> None:
        time.sleep(LEAD)
        moments.append(time.time())
        setup.drop_queries(0)
        time.sleep(FAULT)
        moments.append(time.time())
        setup.answer_queries(0)
        begun = time.monotonic()
        with suppress(TimeoutError):
            until("the upstream's use", lambda: setup.upstreams[0].request("count") > 0, AFTER - 1, 0.02)
            recovery[0] = f"{time.monotonic() - begun:.2f}"

    sample = concurrently(disturb, lambda: generate(setup.server.port, names, RATE, LEAD + FAULT + AFTER))
    gone, came = moments
    spans = {
        "before": (sample.sent[0], gone - 0.05),
        "first second of the fault": (gone, gone + 1),
        "rest of the fault": (gone + 1, came),
        "after": (came, sample.sent[-1]),
    }
    figures: Figures = {}
    for label, span in spans.items():
        part = sample.within([span])
        figures[f"p99 {label}, ms"] = milliseconds(part)
    figures["slowest, ms"] = f"{max(sample.latency) * 1000:.0f}"
    figures["not NOERROR"] = str(sum(code != 0 for code in sample.codes))
    figures["lost"] = str(sample.lost)
    figures["upstream used again after, s"] = recovery[0]
    return figures


def all_silent(setup: ForwardingSetup) -> Figures:
    """Both upstreams stop answering for a while, during many queries for uncached names."""
    server = setup.server
    cluster = [make_query(server.config.cluster.fqdn(number)) for number in range(server.config.cluster.services)]
    for query in cluster:
        query_repeatedly(server.port, query, 2)
    idle = generate(server.port, cluster, CLUSTER_RATE, 5.0)
    answered, _ = query_both(setup, cluster, NAMES // 4)
    before = server.pss()
    setup.drop_queries(0, 1)
    with PssSampler(server.process.pid) as memory:
        busy, codes = query_both(setup, cluster, NAMES)
    setup.answer_queries(0, 1)
    begun = time.monotonic()
    until(
        "recovery",
        lambda: query_repeatedly(server.port, make_query(queries.new_external(1)[0].split()[0]), 1, 0.1),
        60,
        0.01,
    )
    return {
        "queries sent": f"{NAMES:,}",
        "responses": ", ".join(f"{code} {count:,}" for code, count in sorted(codes.items())),
        "memory before, MiB": f"{before:.0f}",
        "peak memory, MiB": f"{memory.peak:.0f}",
        "recovered after, s": f"{time.monotonic() - begun:.2f}",
        "cluster p99 idle, ms": milliseconds(idle),
        "cluster p99 while upstreams answer, ms": milliseconds(answered),
        "cluster p99 while they drop queries, ms": milliseconds(busy),
        "cluster queries lost": str(busy.lost),
    }


def query_both(setup: ForwardingSetup, cluster: Sequence[bytes], count: int) -> tuple[Sample, Counter[str]]:
    """Queries names of the cluster, and at the same time `count` uncached external names.

    Returns the latencies of the cluster names, and the number of responses for the external names by response code.
    """
    codes: Counter[str] = Counter()
    load = Load(0, FLOOD_RATE, 64, 60_000)
    with tempfile.TemporaryDirectory(prefix="svcdns-bench-") as folder:
        path = write_queries(Path(folder) / "names", queries.new_external(count))

        def flood() -> None:
            codes.update(dnsperf.run(load, setup.server.port, path, sorted(os.sched_getaffinity(0))).codes)

        return concurrently(
            flood, lambda: generate(setup.server.port, cluster, CLUSTER_RATE, count / FLOOD_RATE)
        ), codes


def milliseconds(sample: Sample) -> str:
    """Returns the 99th percentile of the latency as text, in milliseconds."""
    return f"{percentile(sample.latency, 0.99) * 1000:.2f}"


def query_repeatedly(port: int, query: bytes, times: int, timeout: float = 1.0) -> bool:
    """Sends a query `times` times. Returns True if the last response is NOERROR."""
    client = Client(port, timeout)
    try:
        replies = [client.query(query) for _ in range(times)]
    finally:
        client.close()
    return bool(replies[-1]) and replies[-1][3] & 15 == 0


def concurrently(work: Callable[[], None], load: Callable[[], Sample]) -> Sample:
    """Runs `work` in a thread and `load` meanwhile.

    Returns the result of `load`. Raises BrokenError if `work` fails.
    """
    errors: list[Exception] = []

    def run() -> None:
        try:
            work()
        except (BrokenError, TimeoutError, RuntimeError) as error:
            errors.append(error)

    other = threading.Thread(target=run)
    other.start()
    sample = load()
    other.join()
    if errors:
        raise BrokenError(str(errors[0]))
    return sample


def lying(setup: ForwardingSetup) -> Figures:
    """Measures CPU time per query while both upstreams send wrong packets over UDP.

    The CPU time of an idle server is subtracted.
    """
    figures: Figures = {}
    pid = setup.server.process.pid
    before = cpu_seconds(pid)
    time.sleep(LIE_SECONDS)
    idle = cpu_seconds(pid) - before
    for lie in ("", *LIES):
        for upstream in setup.upstreams:
            upstream.request(f"lie {lie}" if lie else "answer")
        names = [make_query(line.split()[0]) for line in queries.new_external(int(LIE_RATE * LIE_SECONDS))]
        before = cpu_seconds(pid)
        sample = generate(setup.server.port, names, LIE_RATE, LIE_SECONDS)
        cost = (cpu_seconds(pid) - before - idle) / len(names)
        asked = sum(upstream.request("count") for upstream in setup.upstreams) / len(names)
        label = lie or "no lie"
        figures[f"{label}: CPU, µs"] = f"{cost * 1e6:.0f}"
        figures[f"{label}: queries over UDP"] = f"{asked:.2f}"
        figures[f"{label}: p99, ms"] = milliseconds(sample)
        figures[f"{label}: not NOERROR, or lost"] = str(sum(code != 0 for code in sample.codes) + sample.lost)
    return figures


SCENARIOS: dict[str, tuple[Callable[[ForwardingSetup], Figures], bool]] = {
    "silent": (silent, True),
    "all-silent": (all_silent, False),
    "lying": (lying, False),
}
"""The function of each scenario, and whether the Corefile has `max_concurrent`."""


def table(rows: dict[str, Figures]) -> str:
    """Returns the figures of a scenario as a Markdown table, with a column for each server."""
    measures = list(dict.fromkeys(measure for figures in rows.values() for measure in figures))
    lines = [
        ["", *rows],
        ["---"] * (len(rows) + 1),
        *([measure, *(rows[name].get(measure, "–") for name in rows)] for measure in measures),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the scenarios and prints their tables. Returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m bench.upstream_failures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", choices=[[], *SCENARIOS], help="default: all")
    parser.add_argument(
        "--peers", type=lambda text: text.split(","), default=list(PEERS), help="svcdns,coredns,unbound (all)"
    )
    parser.add_argument("--services", type=int, default=1_000, help="Services of the cluster (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the whole run to this file")
    options = parser.parse_args(arguments)
    cpus = sorted(os.sched_getaffinity(0))
    cores = Cores(cpus[:1], cpus[-1:])
    os.sched_setaffinity(0, cores.client)
    taking_part = [name for name in PEERS if name in options.peers and not peers.why_unavailable(name)]
    report: dict[str, dict[str, Figures]] = {}
    broken: list[str] = []
    for scenario in options.scenarios or SCENARIOS:
        measure, max_concurrent = SCENARIOS[scenario]
        rows = report[scenario] = {}
        for name in taking_part:
            print(f"{scenario}: {name}", file=sys.stderr, flush=True)
            try:
                with forwarding_setup(name, cores, options.services, max_concurrent=max_concurrent) as setup:
                    rows[name] = measure(setup)
            except (BrokenError, TimeoutError) as error:
                broken.append(f"{scenario}, {name}: {error}")
        print(f"{(measure.__doc__ or '').splitlines()[0]}\n\n{table(rows)}\n")
    for text in broken:
        print(f"BROKEN {text}")
    if options.json:
        environment = {
            "command": " ".join(["python", "-m", "bench.upstream_failures", *sys.argv[1:]]),
            "machine": machine.environment(taking_part),
        }
        Path(options.json).write_text(json.dumps({**environment, "scenarios": report}, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
