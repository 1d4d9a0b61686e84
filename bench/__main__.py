"""Measures svcdns beside other name servers: `python -m bench [SCENARIO...]`.

Servers run on one core and are asked from another, in turn, several rounds in one run; the table has medians, and how svcdns stands
to its targets. It ends with 1 only where a scenario is broken: a server does not start, questions are lost, answers are wrong. Peers
that are not installed are left out; CoreDNS is the binary that the environment variable COREDNS names.

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

from bench import changing, latency, machine, memory, peers, scaling, throughput
from bench.results import OURS, as_json, table
from bench.run import Options, Run, Scenario
from bench.servers import Cores

SCENARIOS: dict[str, Scenario] = {
    "hit": throughput.hit,
    "hit-5k": throughput.hit_5k,
    "hit-20k": throughput.hit_20k,
    "mix": throughput.mix,
    "miss": throughput.miss,
    "external": throughput.external,
    "forward": throughput.forward,
    "forward-2k": throughput.forward_2k,
    "tcp": throughput.tcp,
    "latency": latency.latency,
    "change": changing.change,
    "start": changing.start,
    "memory": memory.memory,
    "workers": scaling.workers,
    "growth": scaling.growth,
    "endurance": scaling.endurance,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs scenarios; prints the table."""
    chosen = parser().parse_args(arguments)
    if not shutil.which("dnsperf"):
        print("bench: dnsperf is needed and not in PATH", file=sys.stderr)
        return 2
    unknown = [name for name in chosen.scenarios if name not in SCENARIOS]
    if unknown:
        print(f"bench: no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    options = options_of(chosen)
    os.sched_setaffinity(0, options.cores.asker)
    with Run(options) as run:
        for name in chosen.scenarios or SCENARIOS:
            with run.trying(name, "all servers"):
                SCENARIOS[name](run)
        run.say("done\n")
    print(table(run.rows, options.servers))
    for text in run.broken:
        print(f"\nBROKEN {text}")
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(report(run), indent=1) + "\n")
    return 1 if run.broken else 0


def report(run: Run) -> dict[str, object]:
    """All of a run, for a file."""
    options = run.options
    return {
        "command": " ".join(["python", "-m", "bench", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.facts(options.servers),
        "cores": {"server": list(options.cores.server), "asker": list(options.cores.asker)},
        "services": options.services,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "smoke": options.smoke,
        "rows": as_json(run.rows),
        "broken": run.broken,
        "commands": run.commands,
    }


def options_of(chosen: argparse.Namespace) -> Options:
    """The options of a run; says in a line each which servers are left out."""
    wanted = [OURS, *(name for name in peers.CONFIGURED if name != OURS and name in (chosen.peers or peers.CONFIGURED))]
    if chosen.peers == ["none"]:
        wanted = [OURS]
    for name in wanted:
        if peers.missing(name):
            print(f"bench: {name} is left out: {peers.missing(name)}", file=sys.stderr)
    servers = [name for name in wanted if not peers.missing(name)]
    cores = Cores(*(tuple(map(int, text.split(","))) for text in (chosen.server_cores, chosen.asker_cores)))
    if chosen.smoke:
        return Options(servers, 200, 1, 1, 2_000, cores, smoke=True)
    return Options(servers, chosen.services, chosen.seconds, chosen.rounds, chosen.changes, cores)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    scenarios = "\n".join(f"  {name:<10} {(scenario.__doc__ or '').splitlines()[0]}" for name, scenario in SCENARIOS.items())
    made = argparse.ArgumentParser(
        "python -m bench", description=f"{__doc__}{scenarios}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    last = max(os.sched_getaffinity(0))
    made.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all, where none is named")
    made.add_argument("--peers", type=lambda text: text.split(","), help="nsd,knot,unbound,dnsmasq,coredns (all), or none")
    made.add_argument("--services", type=int, default=10_000, help="Services of the cluster (%(default)s)")
    made.add_argument("--seconds", type=int, default=5, help="of each single load (%(default)s)")
    made.add_argument("--rounds", type=int, default=3, help="in which servers take turns (%(default)s)")
    made.add_argument("--changes", type=int, default=1_000_000, help="that `endurance` makes (%(default)s)")
    made.add_argument("--server-cores", default="0", help="cores of the servers, with commas (%(default)s)")
    made.add_argument("--asker-cores", default=str(last), help="cores of the asking side (%(default)s)")
    made.add_argument("--json", metavar="FILE", help="write everything there")
    made.add_argument("--smoke", action="store_true", help="everything small and once, in seconds: whether the scenarios work")
    return made


if __name__ == "__main__":
    sys.exit(main())
