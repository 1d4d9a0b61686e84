"""Faults without end: `python -m bench.soak --minutes 5`.

Random faults one after the other on a server with two workers, while dnsperf and a checker ask as in `bench.reliability` and endpoints
move. It ends with 1 where an answer was wrong, or where more was lost than the workers that were killed had in their hands.
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
from bench.reliability import good, markdown, row
from bench.scene import Fault, Scale, Scene, run
from bench.servers import Cores

SCALE = Scale(services=5_000, endpoints=5, rate=5_000, checked=300, tcp=500, connections=200)
LEFT = 25.0
"""Seconds before the end after which no fault begins."""
SHORT = 8.0
"""Seconds of an outage of the API server."""


def faults(seconds: float, seed: int, done: Counter[str]) -> Fault:
    """Random faults until the time is nearly over; `done` counts them."""
    chosen = random.Random(seed)
    cases = {name: case.fault for name, case in CASES.items() if name != "none"} | {"api-outage": partial(api_outage, seconds=SHORT)}

    async def fault(scene: Scene) -> None:
        end = time.monotonic() + seconds - LEFT
        while time.monotonic() < end:
            name = chosen.choice(list(cases))
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
            await cases[name](scene)
            done[name] += 1
            await asyncio.sleep(chosen.uniform(0.2, 3.0))

    return fault


def main() -> int:
    """Soaks; prints one line of the table of reliability."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    if not shutil.which("dnsperf"):
        print("bench: dnsperf is needed and not in PATH", file=sys.stderr)
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
    deaths = done["worker-killed"] + done["worker-hung"]
    allowed = Case("", CASES["none"].fault, datagrams=128 * deaths, connections=SCALE.connections * deaths)
    print(markdown([row(", ".join(f"{count} {name}" for name, count in sorted(done.items())), outcome)]))
    if good(allowed, outcome):
        return 0
    print("\n".join(["MISSED: more was lost than may be", *outcome.udp.examples, *outcome.tcp.examples, *outcome.log[-200:]]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
