"""The search path of a Pod: the names that a resolver queries (resolv.conf(5); Kubernetes, DNS for Services and
Pods).
"""

from __future__ import annotations

from typing import Final

NDOTS: Final = 5
"""The `ndots` that the kubelet writes for the DNS policy ClusterFirst."""


def domains(namespace: str, zone: str) -> tuple[str, ...]:
    """Returns the search domains of a Pod in `namespace`. `zone` is the cluster's zone, absolute."""
    return f"{namespace}.svc.{zone}", f"svc.{zone}", zone


def expanded(name: str, search: tuple[str, ...], ndots: int = NDOTS) -> tuple[str, ...]:
    """Returns the absolute names that a resolver queries, in order, until one has an answer.

    A name with a final dot is queried as it is. A name with fewer than `ndots` dots is first queried with each search
    domain.
    """
    if name.endswith("."):
        return (name,)
    alone = f"{name}."
    within = tuple(f"{name}.{domain}" for domain in search)
    return (*within, alone) if name.count(".") < ndots else (alone, *within)
