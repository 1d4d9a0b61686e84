"""Functions that several groups of checks use to select Services and to compare addresses and SRV records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from svcdns.conformance import expected
from svcdns.conformance.cluster_model import Service
from svcdns.conformance.examiner import Examiner
from svcdns.wire.codes import Type

T = TypeVar("T")


def clustered(examiner: Examiner, version: int = 0, kind: str = "") -> list[Service]:
    """Returns the Services that have a ClusterIP.

    If `version` is 4 or 6, the ClusterIP must have this IP version. If `kind` is not empty, the Service must have this
    type.
    """
    found = (s for s in examiner.cluster.services if s.cluster_ips and (not kind or s.type == kind))
    return [s for s in found if not version or s.of_family(version)]


def with_endpoints(examiner: Examiner, version: int = 0) -> list[Service]:
    """Returns the headless Services that have a ready endpoint.

    If `version` is 4 or 6, the endpoint must have this IP version.
    """
    found = (s for s in examiner.cluster.services if s.headless and s.endpoints)
    return [s for s in found if not version or expected.addresses(s, version)]


def few(things: Iterable[T]) -> list[T]:
    """Returns the first four different values."""
    return list(dict.fromkeys(things))[:4]


async def addresses_at(examiner: Examiner, services: list[Service], missing: str, version: int) -> None:
    """Raises Failed unless the names of a sample of `services` have exactly the Services' addresses.

    Queries A for IP version 4 and AAAA for 6. If `services` is empty, raises Skipped with the text `missing`.
    """
    rtype = Type.A if version == 4 else Type.AAAA
    for service in examiner.sample(services, missing):
        answer = await examiner.whole(expected.service_name(service, examiner.zone), rtype)
        answer.exactly(rtype, expected.addresses(service, version))


def srv_of(data: list[str]) -> set[tuple[int, str]]:
    """Returns port and target of SRV records that are given as text."""
    split = (line.split() for line in data)
    return {(int(number), target) for _, _, number, target in split}


def spelled(wanted: set[tuple[int, str]]) -> str:
    """Returns up to six ports and targets as text."""
    return ", ".join(f"port {number} at {target}" for number, target in sorted(wanted)[:6])
