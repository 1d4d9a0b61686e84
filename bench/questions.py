"""What is asked: lines of `name type` for dnsperf, and the share of each response code that right answers to them have."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from bench.cluster import NAMESPACES, OUTSIDE, ZONE, Cluster, namespace, outside

WALKED_FROM = 10
"""Namespaces from which each outside name is asked for."""


@dataclass(frozen=True)
class Questions:
    """Lines to ask in their order, and what share of the answers is NXDOMAIN; all others are NOERROR."""

    lines: list[str]
    absent: float = 0.0


def hits(cluster: Cluster, count: int, seed: int = 1) -> Questions:
    """A of random Services."""
    chosen = random.Random(seed)
    return Questions([f"{cluster.fqdn(chosen.randrange(cluster.services))} A" for _ in range(count)])


def every_name(cluster: Cluster) -> Questions:
    """A and AAAA of every Service."""
    return Questions([f"{cluster.fqdn(number)} {rtype}" for number in range(cluster.services) for rtype in ("A", "AAAA")])


def mix(cluster: Cluster, count: int, seed: int = 2) -> Questions:
    """Half A and AAAA of Services, half the walks that `ndots:5` makes of outside names."""
    chosen = random.Random(seed)
    lines: list[str] = []
    while len(lines) < count:
        for _ in range(4):
            name = cluster.fqdn(chosen.randrange(cluster.services))
            lines += (f"{name} A", f"{name} AAAA")
        site = chosen.randrange(OUTSIDE)
        lines += walk(site, (site + chosen.randrange(WALKED_FROM)) % NAMESPACES)
    return Questions(lines, absent=6 / 16)


def walk(site: int, team: int) -> list[str]:
    """What a Pod asks for an outside name with fewer than five dots: each search domain, then the name."""
    name = outside(site)
    names = [f"{name}.{namespace(team)}.svc.{ZONE}", f"{name}.svc.{ZONE}", f"{name}.{ZONE}", name]
    return [f"{one} {rtype}" for one in names for rtype in ("A", "AAAA")]


def warm_mix(cluster: Cluster) -> Questions:
    """Every name that `mix` may ask for."""
    walks = [line for site in range(OUTSIDE) for team in range(WALKED_FROM) for line in walk(site, (site + team) % NAMESPACES)]
    return Questions([*every_name(cluster).lines, *dict.fromkeys(walks)])


def misses(count: int, seed: str) -> Iterator[str]:
    """Names that do not exist, each asked once; other seeds give other names."""
    return (f"no-{seed}-{number}.{namespace(number)}.svc.{ZONE} A" for number in range(count))


def outsiders(count: int, seed: int = 3) -> Questions:
    """A of random outside names."""
    chosen = random.Random(seed)
    return Questions([f"{outside(chosen.randrange(OUTSIDE))} A" for _ in range(count)])


_strangers = count(OUTSIDE)


def strangers(number: int) -> list[str]:
    """A of so many outside names that were never asked for before."""
    return [f"{outside(next(_strangers))} A" for _ in range(number)]


def every_outsider() -> Questions:
    """A of every outside name."""
    return Questions([f"{outside(number)} A" for number in range(OUTSIDE)])
