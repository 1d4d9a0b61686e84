"""Query sets: lines of `name type` for dnsperf, and the share of each response code in correct responses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from bench.cluster import EXTERNAL_NAMES, NAMESPACES, ZONE, Cluster, external_name, namespace

SEARCH_NAMESPACES = 10
"""Namespaces whose search domains are used for each external name."""


@dataclass(frozen=True)
class Queries:
    """Lines in the order of sending, and the expected share of NXDOMAIN. All other responses are NOERROR."""

    lines: list[str]
    nxdomain: float = 0.0


def hits(cluster: Cluster, count: int, seed: int = 1) -> Queries:
    """A of random Services."""
    rng = random.Random(seed)
    return Queries([f"{cluster.fqdn(rng.randrange(cluster.services))} A" for _ in range(count)])


def every_name(cluster: Cluster) -> Queries:
    """A and AAAA of every Service."""
    return Queries([f"{cluster.fqdn(number)} {rtype}" for number in range(cluster.services) for rtype in ("A", "AAAA")])


def mix(cluster: Cluster, count: int, seed: int = 2) -> Queries:
    """Half A and AAAA of Services, half external names with the search domains of `ndots:5`."""
    rng = random.Random(seed)
    lines: list[str] = []
    while len(lines) < count:
        for _ in range(4):
            name = cluster.fqdn(rng.randrange(cluster.services))
            lines += (f"{name} A", f"{name} AAAA")
        number = rng.randrange(EXTERNAL_NAMES)
        lines += search_path(number, (number + rng.randrange(SEARCH_NAMESPACES)) % NAMESPACES)
    return Queries(lines, nxdomain=6 / 16)


def search_path(number: int, ns: int) -> list[str]:
    """The queries of a Pod for an external name with fewer than five dots: each search domain, then the name."""
    name = external_name(number)
    names = [f"{name}.{namespace(ns)}.svc.{ZONE}", f"{name}.svc.{ZONE}", f"{name}.{ZONE}", name]
    return [f"{one} {rtype}" for one in names for rtype in ("A", "AAAA")]


def warm_mix(cluster: Cluster) -> Queries:
    """Every query that `mix` may contain."""
    search_paths = [
        line
        for number in range(EXTERNAL_NAMES)
        for ns in range(SEARCH_NAMESPACES)
        for line in search_path(number, (number + ns) % NAMESPACES)
    ]
    return Queries([*every_name(cluster).lines, *dict.fromkeys(search_paths)])


def misses(count: int, seed: str) -> Iterator[str]:
    """Nonexistent names, each of them once. Another seed gives other names."""
    return (f"no-{seed}-{number}.{namespace(number)}.svc.{ZONE} A" for number in range(count))


def external(count: int, seed: int = 3) -> Queries:
    """A of random external names."""
    rng = random.Random(seed)
    return Queries([f"{external_name(rng.randrange(EXTERNAL_NAMES))} A" for _ in range(count)])


_unused = count(EXTERNAL_NAMES)


def new_external(number: int) -> list[str]:
    """A of external names that no earlier query had."""
    return [f"{external_name(next(_unused))} A" for _ in range(number)]


def every_external() -> Queries:
    """A of every external name."""
    return Queries([f"{external_name(number)} A" for number in range(EXTERNAL_NAMES)])
