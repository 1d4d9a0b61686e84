"""The suite creates its lab, a set of Services, and deletes it whatever happens."""

from __future__ import annotations

import asyncio
import random

import pytest

from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.lab import BIG, Lab, lab, objects
from tests.conformance.model import FakeApi


def object_names(api: FakeApi) -> list[str]:
    return sorted(api.objects)


async def test_the_lab_has_services_of_every_kind_and_is_removed() -> None:
    api = FakeApi()
    async with lab(api, 1.0, random.Random(3)) as (one, cluster):
        assert {s.type for s in cluster.services} == {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}
        assert max(len(s.endpoints) for s in cluster.services) == BIG
        assert any(s.headless and not s.endpoints for s in cluster.services)
        assert any(s.of_family(4) and s.of_family(6) for s in cluster.services)
        assert not cluster.complete
        assert one.namespace in cluster.namespaces
        assert one.address() != one.address()
    assert object_names(api) == []


async def test_the_lab_is_removed_after_a_failure() -> None:
    api = FakeApi()
    api.refuse = "endpointslices"
    with pytest.raises(ConformanceError, match="403"):
        async with lab(api, 1.0, random.Random(3)):
            pytest.fail("it cannot be open")
    assert object_names(api) == []


async def test_the_lab_is_removed_after_cancellation() -> None:
    api = FakeApi()
    entered = asyncio.Event()

    async def work() -> None:
        async with lab(api, 1.0, random.Random(3)):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    assert object_names(api)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert object_names(api) == []


async def test_the_error_names_what_remains() -> None:
    """The lab cannot be removed. The error has the namespace and the reason."""

    class Stuck(FakeApi):
        async def delete(self, path: str) -> None:
            raise ConformanceError(f"409 {path}")

    one = Lab(Stuck(), "n", 7, 1.0)
    await one.open()
    with pytest.raises(ConformanceError, match="namespace n could not be removed: 409"):
        await one.close()


def test_two_runs_have_different_addresses() -> None:
    sets = [
        {a for item in objects(block) for e in item.get("endpoints", ()) for a in e["addresses"]} for block in (1, 2)
    ]
    assert sets[0]
    assert not sets[0] & sets[1]
