"""Functions for several groups of checks: Services of a kind, their addresses, and SRV records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from svcdns.conformance import expected
from svcdns.conformance.cluster_model import Service
from svcdns.conformance.examiner import Examiner
from svcdns.wire.codes import Type

T = TypeVar("T")


def clustered(examiner: Examiner, version: int = 0, kind: str = "") -> list[Service]:
    """Services with a ClusterIP; of an IP family and of a type if given."""
    found = (s for s in examiner.cluster.services if s.cluster_ips and (not kind or s.type == kind))
    return [s for s in found if not version or s.of_family(version)]


def with_endpoints(examiner: Examiner, version: int = 0) -> list[Service]:
    """Headless Services with ready endpoints; of an IP family if given."""
    found = (s for s in examiner.cluster.services if s.headless and s.endpoints)
    return [s for s in found if not version or expected.addresses(s, version)]


def few(things: Iterable[T]) -> list[T]:
    """The first four different values, so that one Service with many leaves room for others in a sample."""
    return list(dict.fromkeys(things))[:4]


async def addresses_at(examiner: Examiner, services: list[Service], missing: str, version: int) -> None:
    """Checks that A or AAAA (IP version 4 or 6) at a sample of `services` has exactly their addresses.

    Raises Failed, and Skipped with `missing` without a Service.
    """
    rtype = Type.A if version == 4 else Type.AAAA
    for service in examiner.sample(services, missing):
        answer = await examiner.whole(expected.service_name(service, examiner.zone), rtype)
        answer.exactly(rtype, expected.addresses(service, version))


def srv_of(data: list[str]) -> set[tuple[int, str]]:
    """Ports and targets of SRV records, without priority and weight."""
    split = (line.split() for line in data)
    return {(int(number), target) for _, _, number, target in split}


def spelled(wanted: set[tuple[int, str]]) -> str:
    """The first of them as text."""
    return ", ".join(f"port {number} at {target}" for number, target in sorted(wanted)[:6])
