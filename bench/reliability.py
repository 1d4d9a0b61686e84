"""The cost of faults: `python -m bench.reliability [FAULT...]`.

A server is started for each fault. dnsperf and a checker send queries while endpoints change, and the fault happens
under this load. The table has the lost queries and the wrong responses for each fault, and for a run without a fault.
The exit code is 1 if a fault lost more queries than it may, or if a response was wrong. A server with one worker runs
on the first core, and a server with two workers on all cores.

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
from bench.servers import Cores
from bench.testbed import Outcome, Scale, run

PEER_EXTRA = 60
"""Additional seconds of load for a peer: each reload of CoreDNS takes its lame duck time."""
HEADER = (
    "fault", "sent (UDP)", "lost", "checked (UDP, TCP)", "lost (UDP, TCP)", "wrong", "connections ended", "kernel drops", "slowest",
    "recovery time",
)  # fmt: skip


def within_limits(case: Case, outcome: Outcome) -> bool:
    """Returns True if the run lost no more queries and connections than `case` allows, and no response was wrong."""
    wrong = outcome.udp.wrong + outcome.tcp.wrong
    ended = outcome.tcp.closed <= case.connections and outcome.tcp.lost == outcome.tcp.cut
    return not wrong and ended and outcome.load.lost + outcome.udp.lost <= case.max_lost


def row(name: str, outcome: Outcome) -> list[str]:
    """Returns the row of the table for one fault, with the columns of HEADER."""
    udp, tcp, load = outcome.udp, outcome.tcp, outcome.load
    slowest = max(udp.slowest, tcp.slowest) * 1000
    return [
        name,
        f"{load.sent:,}",
        str(load.lost),
        f"{udp.sent:,}, {tcp.sent:,}",
        f"{udp.lost}, {tcp.lost}",
        str(udp.wrong + tcp.wrong),
        str(tcp.closed),
        f"{outcome.drops:g}",
        f"{slowest:.0f} ms",
        f"{outcome.recovery_time:.2f} s" if outcome.recovery_time else "",
    ]


def markdown(rows: list[list[str]]) -> str:
    """Returns the rows as a Markdown table, below HEADER."""
    lines = [list(HEADER), ["---"] * len(HEADER), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs a server under load for each fault, and prints the table. Returns the exit code."""
    names = "\n".join(f"  {name:<16} {case.description}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        "python -m bench.reliability",
        description=f"{__doc__}{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", choices=[[], *CASES], help="default: all")
    for field, default in asdict(Scale()).items():
        if field != "ordinary_buffers":
            parser.add_argument(f"--{field}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--ordinary-buffers", action="store_true", help="receive buffers of the kernel's default size")
    parser.add_argument(
        "--peer", default=OURS, choices=peers.WATCHERS, help="CoreDNS gets only the faults of a single process"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write the whole run to this file")
    options = parser.parse_args(arguments)
    if not shutil.which("dnsperf"):
        print("bench: dnsperf is not in PATH", file=sys.stderr)
        return 2
    scale = Scale(**{field: getattr(options, field) for field in asdict(Scale())})
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[-1:])
    rows, report, bad = [], [], []
    for name in options.faults or CASES:
        case = CASES[name]
        if options.peer != OURS and not case.any_server:
            continue
        for _ in range(options.rounds):
            print(f"{name}: {case.description}", file=sys.stderr, flush=True)
            cores = Cores(cpus[:1] if case.workers == 1 else cpus, cpus[-1:])
            seconds = case.seconds if options.peer == OURS else case.seconds + PEER_EXTRA
            try:
                outcome = run(case.fault, scale, cores, seconds=seconds, name=options.peer, workers=case.workers)
            except BrokenError as error:
                bad.append(f"{name}: {error}")
                continue
            rows.append(row(case.description, outcome))
            report.append({"fault": name, **asdict(outcome)})
            if options.peer == OURS and not within_limits(case, outcome):
                bad.append(
                    "\n".join(
                        [f"{name}: losses above the limit", *outcome.udp.examples, *outcome.tcp.examples, *outcome.log]
                    )
                )
    print(markdown(rows))
    for text in bad:
        print(f"\nMISSED {text}")
    if options.json:
        environment = {
            "command": " ".join(["python", "-m", "bench.reliability", *sys.argv[1:]]),
            "machine": machine.environment([]),
        }
        Path(options.json).write_text(json.dumps({**environment, "runs": report}, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
