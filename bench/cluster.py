"""A cluster of a given size behind the tests' API double, changed at a given rate: `python -m bench.cluster --services 10000 --changes 50`.

It prints its URL once it listens, changes endpoint slices until its standard input ends, and then prints how many changes it made.
"""

from __future__ import annotations

import argparse
import itertools
import random
import select
import sys
import time
from collections.abc import Iterator

from tests.support.api_double import ApiDouble, Object, endpoint_slice, namespace, service

NAMESPACES = 50


def place(number: int) -> tuple[str, str]:
    """Name and namespace of a Service."""
    return f"service-{number}", f"team-{number % NAMESPACES}"


def address(number: int) -> str:
    """The cluster IP of a Service; every tenth is headless."""
    return "None" if number % 10 == 0 else f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def slice_of(number: int, size: int, variant: int = 0) -> Object:
    """The slice of a Service, with `size` endpoints; variants differ in one address."""
    name, team = place(number)
    pods = [f"10.{128 + (number >> 14)}.{number >> 6 & 255}.{(number << 2 | k) & 255}" for k in range(size)]
    if variant:
        pods[0] = f"10.200.{variant >> 8 & 255}.{variant & 255}"
    return endpoint_slice(f"{name}-abc", name, *pods, namespace=team)


def objects(services: int, endpoints: int) -> Iterator[Object]:
    """All of the cluster."""
    for team in range(NAMESPACES):
        yield namespace(f"team-{team}")
    for number in range(services):
        name, team = place(number)
        yield service(name, address(number), 80, namespace=team)
        yield slice_of(number, endpoints)


def main() -> None:
    """Serves and changes the cluster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=4, help="endpoints of each Service")
    parser.add_argument("--changes", type=float, default=50.0, help="endpoint slices changed a second")
    options = parser.parse_args()
    chosen = random.Random(1)
    with ApiDouble(objects(options.services, options.endpoints)) as api:
        print(api.url, flush=True)
        made = 0
        begin = time.monotonic()
        for variant in itertools.count(1):
            pause = begin + variant / options.changes - time.monotonic() if options.changes else None
            if select.select([sys.stdin], [], [], None if pause is None else max(0.0, pause))[0]:
                break
            api.put(slice_of(chosen.randrange(options.services), options.endpoints, variant))
            made += 1
        print(made, flush=True)


if __name__ == "__main__":
    main()
