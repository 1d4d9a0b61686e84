"""Random faults for a given time: `python -m bench.soak --minutes 5`.

The faults happen one after another to a server with two workers, under the load of `bench.reliability`. The exit code
is 1 if a response was wrong, or if more queries were lost than the killed workers had outstanding.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import time
from collections import Counter
from functools import partial

from bench.dnsperf import BrokenError
from bench.faults import CASES, Case, api_outage
from bench.reliability import markdown, row, within_limits
from bench.servers import Cores
from bench.testbed import Fault, Scale, Testbed, run

SCALE = Scale(services=5_000, endpoints=5, rate=5_000, checked=300, tcp=500, connections=200)
FAULT_MARGIN = 25.0
"""Seconds before the end in which no fault begins."""
OUTAGE = 8.0
"""Seconds of an outage of the API server."""


def faults(seconds: float, seed: int, done: Counter[str]) -> Fault:
    """Returns a fault that runs random faults one after another. No fault begins in the last FAULT_MARGIN seconds.

    `done` counts the faults by name.
    """
    rng = random.Random(seed)
    cases = {name: case.fault for name, case in CASES.items() if name != "none"} | {
        "api-outage": partial(api_outage, seconds=OUTAGE)
    }

    async def fault(testbed: Testbed) -> None:
        end = time.monotonic() + seconds - FAULT_MARGIN
        while time.monotonic() < end:
            name = rng.choice(list(cases))
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
            await cases[name](testbed)
            done[name] += 1
            await asyncio.sleep(rng.uniform(0.2, 3.0))

    return fault


def main() -> int:
    """Runs the faults, and prints one row of the table of `bench.reliability`. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    if not shutil.which("dnsperf"):
        print("bench: dnsperf is not in PATH", file=sys.stderr)
        return 2
    seconds = max(int(options.minutes * 60), 40)
    cpus = sorted(os.sched_getaffinity(0))
    done: Counter[str] = Counter()
    print(f"seed {options.seed}, {seconds} s", file=sys.stderr)
    try:
        outcome = run(faults(seconds, options.seed, done), SCALE, Cores(cpus, cpus), seconds=seconds, workers=2)
    except BrokenError as error:
        print(f"BROKEN {error}")
        return 1
    killed_workers = done["worker-killed"] + done["worker-hung"]
    allowed = Case(
        "", CASES["none"].fault, max_lost=128 * killed_workers, connections=SCALE.connections * killed_workers
    )
    print(markdown([row(", ".join(f"{count} {name}" for name, count in sorted(done.items())), outcome)]))
    if within_limits(allowed, outcome):
        return 0
    print(
        "\n".join(["MISSED: losses above the limit", *outcome.udp.examples, *outcome.tcp.examples, *outcome.log[-200:]])
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
