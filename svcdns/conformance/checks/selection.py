"""Functions that several groups of checks use: they select Services, and compare addresses and SRV records."""

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

    With `version` 4 or 6, returns only those with a ClusterIP of this IP version. With `kind`, returns only those of
    this Service type.
    """
    found = (s for s in examiner.cluster.services if s.cluster_ips and (not kind or s.type == kind))
    return [s for s in found if not version or s.of_family(version)]


def with_endpoints(examiner: Examiner, version: int = 0) -> list[Service]:
    """Returns the headless Services that have a ready endpoint.

    With `version` 4 or 6, returns only those with a ready endpoint of this IP version.
    """
    found = (s for s in examiner.cluster.services if s.headless and s.endpoints)
    return [s for s in found if not version or expected.addresses(s, version)]


def few(things: Iterable[T]) -> list[T]:
    """Returns the first four different values, so that one Service with many values does not fill a sample."""
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
    """Returns port and target of SRV records, given as text. Priority and weight are left out."""
    split = (line.split() for line in data)
    return {(int(number), target) for _, _, number, target in split}


def spelled(wanted: set[tuple[int, str]]) -> str:
    """Returns up to six of the given ports and targets as text."""
    return ", ".join(f"port {number} at {target}" for number, target in sorted(wanted)[:6])
