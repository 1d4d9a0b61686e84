"""Functions that several groups of checks share: Services of a kind, their addresses, SRV records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from svcdns.conformance import expected
from svcdns.conformance.cluster_model import Service
from svcdns.conformance.examiner import Examiner
from svcdns.wire.codes import Type

T = TypeVar("T")


def clustered(examiner: Examiner, version: int = 0, kind: str = "") -> list[Service]:
    """Services with a ClusterIP, of an IP family and of a type if those are given."""
    found = (s for s in examiner.cluster.services if s.cluster_ips and (not kind or s.type == kind))
    return [s for s in found if not version or s.of_family(version)]


def with_endpoints(examiner: Examiner, version: int = 0) -> list[Service]:
    """Headless Services with ready endpoints, of an IP family if it is given."""
    found = (s for s in examiner.cluster.services if s.headless and s.endpoints)
    return [s for s in found if not version or expected.addresses(s, version)]


def few(things: Iterable[T]) -> list[T]:
    """The first four different ones: so many of a Service stand for all, and leave room for other Services in a sample."""
    return list(dict.fromkeys(things))[:4]


async def addresses_at(examiner: Examiner, services: list[Service], missing: str, version: int) -> None:
    """A or AAAA (IP version 4 or 6) at the names of a sample of `services` has exactly their addresses. Raises Failed, and Skipped with
    `missing` where there is no Service."""
    rtype = Type.A if version == 4 else Type.AAAA
    for service in examiner.some(services, missing):
        answer = await examiner.whole(expected.service_name(service, examiner.zone), rtype)
        answer.exactly(rtype, expected.addresses(service, version))


def srv_of(data: list[str]) -> set[tuple[int, str]]:
    """Ports and targets of SRV records; priority and weight are not prescribed."""
    split = (line.split() for line in data)
    return {(int(number), target) for _, _, number, target in split}


def spelled(wanted: set[tuple[int, str]]) -> str:
    """The first few of them as text."""
    return ", ".join(f"port {number} at {target}" for number, target in sorted(wanted)[:6])
