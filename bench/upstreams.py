"""What upstreams that fail cost: `python -m bench.upstreams [silent] [all-silent]`.

`silent`: two upstreams, names that nobody has asked for before at a fixed rate; one of them goes silent, and comes back. `all-silent`:
both go silent while 100,000 such names are asked, and come back; names of the cluster are asked beside it. The Corefile is kubeadm's with
two upstreams; `all-silent` leaves its `max_concurrent` out, so that the server's own bounds show. Servers run on the first core, all else
on the last.
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

from bench import dnsperf, machine, peers, questions
from bench.asking import Asker, packet, write_questions
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Load
from bench.open_loop import Sample, ask, percentile
from bench.processes import Helper, PssSampler, free_ports, until
from bench.results import OURS
from bench.servers import Cores, Server

LEAD, FAULT, AFTER = 4.0, 10.0, 6.0
"""Seconds of asking before, during and after an upstream is silent."""
RATE = 2_000
NAMES = 100_000
FLOOD_RATE = 5_000
CLUSTER_RATE = 500
PEERS = (OURS, "coredns", "unbound")

Figures = dict[str, str]


@dataclass(frozen=True)
class Place:
    """A server and its two upstreams."""

    server: Server
    upstreams: Sequence[Helper]

    def silence(self, *which: int) -> None:
        """Has upstreams drop what they are asked."""
        for number in which:
            self.upstreams[number].ask("silent")

    def speak(self, *which: int) -> None:
        """Has them answer again."""
        for number in which:
            self.upstreams[number].ask("speak")


@contextmanager
def placed(name: str, cores: Cores, services: int, *, limited: bool) -> Iterator[Place]:
    """A running server with upstreams."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="svcdns-bench-")))
        upstreams = [Helper("bench.upstream", cpus=cores.asker) for _ in range(2)]
        for one in upstreams:
            stack.callback(one.close)
        api = Helper("bench.api", "--services", str(services), "--endpoints", "1", cpus=cores.asker) if name in peers.WATCHERS else None
        port, *pages = free_ports(4)
        site = peers.Site(
            Cluster(services), port, upstreams[0].port, api.port if api else 0, 1,
            dict(zip(("health", "ready", "metrics"), pages, strict=True)), (upstreams[1].port,), limited=limited,
        )  # fmt: skip
        server = Server(name, site, folder, cores, api)
        stack.callback(server.stop)
        server.wait()
        yield Place(server, upstreams)


def silent(place: Place) -> Figures:
    """One of two upstreams goes silent under a steady rate of new names, and comes back."""
    names = [packet(line.split()[0]) for line in questions.strangers(int(RATE * (LEAD + FAULT + AFTER)) + RATE)]
    moments: list[float] = []
    back = ["not in time"]

    def disturb() -> None:
        time.sleep(LEAD)
        moments.append(time.time())
        place.silence(0)
        time.sleep(FAULT)
        moments.append(time.time())
        place.speak(0)
        begun = time.monotonic()
        with suppress(TimeoutError):
            until("the upstream's use", lambda: place.upstreams[0].ask("asked") > 0, AFTER - 1, 0.02)
            back[0] = f"{time.monotonic() - begun:.2f}"

    sample = beside(disturb, lambda: ask(place.server.port, names, RATE, LEAD + FAULT + AFTER))
    gone, came = moments
    spans = {
        "before": (sample.sent[0], gone - 0.05),
        "first second": (gone, gone + 1),
        "then": (gone + 1, came),
        "after": (came, sample.sent[-1]),
    }
    figures: Figures = {}
    for label, span in spans.items():
        part = sample.within([span])
        figures[f"p99 {label}, ms"] = milliseconds(part)
    figures["slowest, ms"] = f"{max(sample.latency) * 1000:.0f}"
    figures["not NOERROR"] = str(sum(code != 0 for code in sample.codes))
    figures["unanswered"] = str(sample.lost)
    figures["used again after, s"] = back[0]
    return figures


def all_silent(place: Place) -> Figures:
    """All upstreams go silent while many new names are asked, and come back."""
    server = place.server
    cluster = [packet(server.site.cluster.fqdn(number)) for number in range(server.site.cluster.services)]
    for question in cluster:
        with_asker(server.port, question, 2)
    idle = ask(server.port, cluster, CLUSTER_RATE, 5.0)
    answered, _ = flooded(place, cluster, NAMES // 4)
    before = server.pss()
    place.silence(0, 1)
    with PssSampler(server.process.pid) as memory:
        busy, codes = flooded(place, cluster, NAMES)
    place.speak(0, 1)
    begun = time.monotonic()
    until("recovery", lambda: with_asker(server.port, packet(questions.strangers(1)[0].split()[0]), 1, 0.1), 60, 0.01)
    return {
        "asked": f"{NAMES:,}",
        "answers": ", ".join(f"{code} {count:,}" for code, count in sorted(codes.items())),
        "memory before, MiB": f"{before:.0f}",
        "memory at most, MiB": f"{memory.peak:.0f}",
        "recovered after, s": f"{time.monotonic() - begun:.2f}",
        "cluster p99 idle, ms": milliseconds(idle),
        "cluster p99 while upstreams answer, ms": milliseconds(answered),
        "cluster p99 while they are silent, ms": milliseconds(busy),
        "cluster questions unanswered": str(busy.lost),
    }


def flooded(place: Place, cluster: Sequence[bytes], count: int) -> tuple[Sample, Counter[str]]:
    """Names of the cluster beside so many new outside names; the response codes of the latter."""
    codes: Counter[str] = Counter()
    load = Load(0, FLOOD_RATE, 64, 60_000)
    with tempfile.TemporaryDirectory(prefix="svcdns-bench-") as folder:
        path = write_questions(Path(folder) / "names", questions.strangers(count))

        def flood() -> None:
            codes.update(dnsperf.run(load, place.server.port, path, sorted(os.sched_getaffinity(0))).codes)

        return beside(flood, lambda: ask(place.server.port, cluster, CLUSTER_RATE, count / FLOOD_RATE)), codes


def milliseconds(sample: Sample) -> str:
    """The 99th percentile of the latency."""
    return f"{percentile(sample.latency, 0.99) * 1000:.2f}"


def with_asker(port: int, question: bytes, times: int, timeout: float = 1.0) -> bool:
    """Asks some times; whether the last answer is NOERROR."""
    asker = Asker(port, timeout)
    try:
        replies = [asker.ask(question) for _ in range(times)]
    finally:
        asker.close()
    return bool(replies[-1]) and replies[-1][3] & 15 == 0


def beside(work: Callable[[], None], asking: Callable[[], Sample]) -> Sample:
    """Asks while something else is done; what that raises is raised here."""
    troubles: list[Exception] = []

    def run() -> None:
        try:
            work()
        except (BrokenError, TimeoutError, RuntimeError) as error:
            troubles.append(error)

    other = threading.Thread(target=run)
    other.start()
    sample = asking()
    other.join()
    if troubles:
        raise BrokenError(str(troubles[0]))
    return sample


SCENARIOS: dict[str, tuple[Callable[[Place], Figures], bool]] = {"silent": (silent, True), "all-silent": (all_silent, False)}
"""What is done, and whether `max_concurrent` stands in the Corefile."""


def table(rows: dict[str, Figures]) -> str:
    """Servers side by side."""
    measures = list(dict.fromkeys(measure for figures in rows.values() for measure in figures))
    lines = [["", *rows], ["---"] * (len(rows) + 1), *([measure, *(rows[name].get(measure, "–") for name in rows)] for measure in measures)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs scenarios; prints their tables."""
    parser = argparse.ArgumentParser("python -m bench.upstreams", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", choices=[[], *SCENARIOS], help="all, where none is named")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS), help="svcdns,coredns,unbound (all)")
    parser.add_argument("--services", type=int, default=1_000, help="Services of the cluster (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write everything there")
    chosen = parser.parse_args(arguments)
    cpus = sorted(os.sched_getaffinity(0))
    cores = Cores(cpus[:1], cpus[-1:])
    os.sched_setaffinity(0, cores.asker)
    taking_part = [name for name in PEERS if name in chosen.peers and not peers.missing(name)]
    report: dict[str, dict[str, Figures]] = {}
    broken: list[str] = []
    for scenario in chosen.scenarios or SCENARIOS:
        measure, limited = SCENARIOS[scenario]
        rows = report[scenario] = {}
        for name in taking_part:
            print(f"{scenario}: {name}", file=sys.stderr, flush=True)
            try:
                with placed(name, cores, chosen.services, limited=limited) as place:
                    rows[name] = measure(place)
            except (BrokenError, TimeoutError) as error:
                broken.append(f"{scenario}, {name}: {error}")
        print(f"{(measure.__doc__ or '').splitlines()[0]}\n\n{table(rows)}\n")
    for text in broken:
        print(f"BROKEN {text}")
    if chosen.json:
        facts = {"command": " ".join(["python", "-m", "bench.upstreams", *sys.argv[1:]]), "machine": machine.facts(taking_part)}
        Path(chosen.json).write_text(json.dumps({**facts, "scenarios": report}, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
