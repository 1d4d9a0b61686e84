"""Compares svcdns with other name servers: `python -m bench [SCENARIO...]`.

The servers run on one core and the load generator on another. Each round measures every server once. The table shows
the median of the rounds, and the targets of svcdns. The exit code is 1 if a scenario is broken: a server does not
start, queries are lost, or responses are wrong. Servers that are not installed are left out. The environment variable
COREDNS names the CoreDNS binary.

Scenarios:
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from bench import (
    cold,
    connections,
    forwarding,
    latency,
    machine,
    memory,
    peers,
    propagation,
    restarts,
    scaling,
    throughput,
)  # fmt: skip
from bench.results import OURS, as_json, markdown, table
from bench.run import Options, Run, Scenario
from bench.servers import Cores

SCENARIOS: dict[str, Scenario] = {
    "hit": throughput.hit,
    "hit-5k": throughput.hit_5k,
    "hit-20k": throughput.hit_20k,
    "mix": throughput.mix,
    "miss": throughput.miss,
    "external": throughput.external,
    "cold": cold.cold,
    "cold-mix": cold.cold_mix,
    "forward": forwarding.forward,
    "forward-2k": forwarding.forward_2k,
    "tcp": connections.tcp,
    "latency": latency.latency,
    "change": propagation.change,
    "restarts": restarts.restarts,
    "start": propagation.start,
    "memory": memory.memory,
    "workers": scaling.workers,
    "growth": scaling.growth,
    "endurance": scaling.endurance,
}

SMOKE_NOTE: Final = """
A smoke run shows whether the scenarios work. Its figures and verdicts say nothing about speed: its loads have at most
a few thousand queries and its clusters are small, so that caches are still being filled while it measures.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the scenarios and prints the table. Returns the exit code."""
    arguments = parser().parse_args(argv)
    if not shutil.which("dnsperf"):
        print("bench: dnsperf is not in PATH", file=sys.stderr)
        return 2
    unknown = [name for name in arguments.scenarios if name not in SCENARIOS]
    if unknown:
        print(f"bench: unknown scenarios {', '.join(unknown)}; known are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    options = options_of(arguments)
    os.sched_setaffinity(0, options.cores.client)
    with Run(options) as run:
        for name in arguments.scenarios or SCENARIOS:
            with run.catching_failures(name, "all servers"):
                SCENARIOS[name](run)
        run.progress("done\n")
    print(table(run.rows, options.servers))
    if arguments.markdown:
        Path(arguments.markdown).write_text(markdown(run.rows, options.servers) + "\n")
    if options.smoke:
        print(SMOKE_NOTE)
    for text in run.broken:
        print(f"\nBROKEN {text}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report(run), indent=1) + "\n")
    return 1 if run.broken else 0


def report(run: Run) -> dict[str, object]:
    """Returns the options, the machine and all results of a run, for the JSON file."""
    options = run.options
    return {
        "command": " ".join(["python", "-m", "bench", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.environment(options.servers),
        "cores": {"server": list(options.cores.server), "client": list(options.cores.client)},
        "services": options.services,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "smoke": options.smoke,
        "rows": as_json(run.rows),
        "broken": run.broken,
        "commands": run.commands,
    }


def options_of(arguments: argparse.Namespace) -> Options:
    """Returns the options of the run. Prints one line for each server that is not installed."""
    wanted = [
        OURS,
        *(name for name in peers.CONFIGURED if name != OURS and name in (arguments.peers or peers.CONFIGURED)),
    ]
    if arguments.peers == ["none"]:
        wanted = [OURS]
    for name in wanted:
        if peers.why_unavailable(name):
            print(f"bench: leaving out {name}: {peers.why_unavailable(name)}", file=sys.stderr)
    servers = [name for name in wanted if not peers.why_unavailable(name)]
    cores = Cores(*(tuple(map(int, text.split(","))) for text in (arguments.server_cores, arguments.client_cores)))
    if arguments.smoke:
        return Options(servers, 200, 1, 1, 2_000, cores, smoke=True)
    return Options(
        servers,
        arguments.services,
        arguments.seconds,
        arguments.rounds,
        arguments.changes,
        cores,
        stamps=arguments.stamps,
    )


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    scenarios = "\n".join(
        f"  {name:<10} {(scenario.__doc__ or '').splitlines()[0]}" for name, scenario in SCENARIOS.items()
    )
    made = argparse.ArgumentParser(
        "python -m bench", description=f"{__doc__}{scenarios}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    last = max(os.sched_getaffinity(0))
    made.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="default: all")
    made.add_argument(
        "--peers", type=lambda text: text.split(","), help="nsd,knot,unbound,dnsmasq,coredns (all), or none"
    )
    made.add_argument("--services", type=int, default=10_000, help="Services of the cluster (%(default)s)")
    made.add_argument("--seconds", type=int, default=5, help="seconds of each load (%(default)s)")
    made.add_argument("--rounds", type=int, default=3, help="rounds over all servers (%(default)s)")
    made.add_argument("--changes", type=int, default=1_000_000, help="changes that `endurance` makes (%(default)s)")
    made.add_argument("--stamps", action="store_true", help="time each step of a change in the scenario `change`")
    made.add_argument("--server-cores", default="0", help="cores of the servers, separated by commas (%(default)s)")
    made.add_argument("--client-cores", default=str(last), help="cores of the load generators (%(default)s)")
    made.add_argument("--json", metavar="FILE", help="write the whole run to this file")
    made.add_argument("--markdown", metavar="FILE", help="write the rows with targets to this file, as Markdown")
    made.add_argument("--smoke", action="store_true", help="small loads and one round, to test the scenarios")
    return made


if __name__ == "__main__":
    sys.exit(main())
