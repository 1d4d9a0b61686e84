"""Makes the queries for dnsperf: lines of `name type`, with the expected share of NXDOMAIN responses."""

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
    """Queries for dnsperf as lines of text, and the share of responses that must be NXDOMAIN. All others must be
    NOERROR.
    """

    lines: list[str]
    nxdomain: float = 0.0


def hits(cluster: Cluster, count: int, seed: int = 1) -> Queries:
    """Returns A queries for random Services."""
    rng = random.Random(seed)
    return Queries([f"{cluster.fqdn(rng.randrange(cluster.services))} A" for _ in range(count)])


def every_name(cluster: Cluster) -> Queries:
    """Returns an A and an AAAA query for every Service."""
    return Queries([f"{cluster.fqdn(number)} {rtype}" for number in range(cluster.services) for rtype in ("A", "AAAA")])


def mix(cluster: Cluster, count: int, seed: int = 2) -> Queries:
    """Returns A and AAAA queries, half of them for Services and half for external names.

    As in a Pod with `ndots:5`, an external name is queried with each search domain first, then as it is.
    """
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
    """Returns the queries of a Pod in namespace number `ns` for an external name with fewer than five dots.

    These are A and AAAA queries for the name with each search domain, then for the name itself.
    """
    name = external_name(number)
    names = [f"{name}.{namespace(ns)}.svc.{ZONE}", f"{name}.svc.{ZONE}", f"{name}.{ZONE}", name]
    return [f"{one} {rtype}" for one in names for rtype in ("A", "AAAA")]


def warm_mix(cluster: Cluster) -> Queries:
    """Returns every query that `mix` may return, so that caches can be filled before the measurement."""
    search_paths = [
        line
        for number in range(EXTERNAL_NAMES)
        for ns in range(SEARCH_NAMESPACES)
        for line in search_path(number, (number + ns) % NAMESPACES)
    ]
    return Queries([*every_name(cluster).lines, *dict.fromkeys(search_paths)])


def misses(count: int, seed: str) -> Iterator[str]:
    """Yields A queries for nonexistent names, each name once. The names depend on `seed`."""
    return (f"no-{seed}-{number}.{namespace(number)}.svc.{ZONE} A" for number in range(count))


def external(count: int, seed: int = 3) -> Queries:
    """Returns A queries for random external names."""
    rng = random.Random(seed)
    return Queries([f"{external_name(rng.randrange(EXTERNAL_NAMES))} A" for _ in range(count)])


_unused = count(EXTERNAL_NAMES)


def new_external(number: int) -> list[str]:
    """Returns A queries for external names that no earlier call has returned."""
    return [f"{external_name(next(_unused))} A" for _ in range(number)]


def every_external() -> Queries:
    """Returns an A query for every external name."""
    return Queries([f"{external_name(number)} A" for number in range(EXTERNAL_NAMES)])
