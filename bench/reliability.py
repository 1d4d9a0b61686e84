"""What faults cost: `python -m bench.reliability [FAULT...]`.

For each fault a server is started, asked by dnsperf over UDP and by a checker over UDP and over kept TCP connections, while endpoints
move; the fault is made in the midst. The table has what was lost and what was wrong, beside a run without a fault. It ends with 1 where
more was lost than the fault may cost, or anything was wrong. Servers run on the first core, or with two workers on both.

Faults:
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from bench import machine, peers
from bench.dnsperf import BrokenError
from bench.faults import CASES, Case
from bench.results import OURS
from bench.scene import Outcome, Scale, run
from bench.servers import Cores

SLOWER = 60
"""Seconds that the load of a peer lasts longer: each reload of CoreDNS takes its lame duck time."""
HEAD = (
    "fault", "asked (UDP)", "lost", "checked (UDP, TCP)", "lost (UDP, TCP)", "wrong", "connections ended", "kernel drops", "slowest",
    "change answered",
)  # fmt: skip


def good(case: Case, outcome: Outcome) -> bool:
    """Whether no more was lost than the fault may cost, and nothing was wrong."""
    wrong = outcome.udp.wrong + outcome.tcp.wrong
    ended = outcome.tcp.closed <= case.connections and outcome.tcp.lost == outcome.tcp.cut
    return not wrong and ended and outcome.load.lost + outcome.udp.lost <= case.datagrams


def row(name: str, outcome: Outcome) -> list[str]:
    """A line of the table."""
    udp, tcp, load = outcome.udp, outcome.tcp, outcome.load
    slowest = max(udp.slowest, tcp.slowest) * 1000
    return [
        name,
        f"{load.sent:,}",
        str(load.lost),
        f"{udp.asked:,}, {tcp.asked:,}",
        f"{udp.lost}, {tcp.lost}",
        str(udp.wrong + tcp.wrong),
        str(tcp.closed),
        f"{outcome.drops:g}",
        f"{slowest:.0f} ms",
        f"{outcome.recovered:.2f} s" if outcome.recovered else "",
    ]


def markdown(rows: list[list[str]]) -> str:
    """The table."""
    lines = [list(HEAD), ["---"] * len(HEAD), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Makes faults; prints the table."""
    names = "\n".join(f"  {name:<16} {case.what}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        "python -m bench.reliability", description=f"{__doc__}{names}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", choices=[[], *CASES], help="all, where none is named")
    for field, default in asdict(Scale()).items():
        if field != "ordinary_buffers":
            parser.add_argument(f"--{field}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--ordinary-buffers", action="store_true", help="receive buffers of the kernel's default size")
    parser.add_argument("--peer", default=OURS, choices=peers.WATCHERS, help="CoreDNS has the faults of a server of one process")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write everything there")
    chosen = parser.parse_args(arguments)
    if not shutil.which("dnsperf"):
        print("bench: dnsperf is needed and not in PATH", file=sys.stderr)
        return 2
    scale = Scale(**{field: getattr(chosen, field) for field in asdict(Scale())})
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[-1:])
    rows, report, bad = [], [], []
    for name in chosen.faults or CASES:
        case = CASES[name]
        if chosen.peer != OURS and not case.any_server:
            continue
        for _ in range(chosen.rounds):
            print(f"{name}: {case.what}", file=sys.stderr, flush=True)
            cores = Cores(cpus[:1] if case.workers == 1 else cpus, cpus[-1:])
            seconds = case.seconds if chosen.peer == OURS else case.seconds + SLOWER
            try:
                outcome = run(case.fault, scale, cores, seconds=seconds, name=chosen.peer, workers=case.workers)
            except BrokenError as error:
                bad.append(f"{name}: {error}")
                continue
            rows.append(row(case.what, outcome))
            report.append({"fault": name, **asdict(outcome)})
            if chosen.peer == OURS and not good(case, outcome):
                bad.append("\n".join([f"{name}: more was lost than may be", *outcome.udp.examples, *outcome.tcp.examples, *outcome.log]))
    print(markdown(rows))
    for text in bad:
        print(f"\nMISSED {text}")
    if chosen.json:
        facts = {"command": " ".join(["python", "-m", "bench.reliability", *sys.argv[1:]]), "machine": machine.facts([])}
        Path(chosen.json).write_text(json.dumps({**facts, "runs": report}, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
