"""The search path of a Pod: which names a resolver asks for (resolv.conf(5); Kubernetes, DNS for Services and Pods)."""

from __future__ import annotations

from typing import Final

NDOTS: Final = 5
"""The `ndots` that the kubelet writes for the DNS policy ClusterFirst."""


def domains(namespace: str, zone: str) -> tuple[str, ...]:
    """Returns the search domains of a Pod in `namespace`; `zone` is the cluster's zone, absolute."""
    return f"{namespace}.svc.{zone}", f"svc.{zone}", zone


def expanded(name: str, search: tuple[str, ...], ndots: int = NDOTS) -> tuple[str, ...]:
    """Returns the absolute names that a resolver asks for, in this order, until one has an answer.

    A name that ends with a dot is asked as it is. A name with fewer than `ndots` dots is tried with each search domain
    first, and then as it is.
    """
    if name.endswith("."):
        return (name,)
    alone = f"{name}."
    within = tuple(f"{name}.{domain}" for domain in search)
    return (*within, alone) if name.count(".") < ndots else (alone, *within)
