"""The namespace that is made and removed, whatever happens between."""

from __future__ import annotations

import asyncio
import random

import pytest

from svcdns.conformance.errors import ConformanceError
from svcdns.conformance.lab import BIG, Lab, lab, objects
from tests.conformance.model import FakeApi


def made(api: FakeApi) -> list[str]:
    """What is in the API server."""
    return sorted(api.objects)


async def test_it_has_a_service_of_every_kind_and_leaves_nothing() -> None:
    """Types, a headless one that is big, one without endpoints; all gone at the end."""
    api = FakeApi()
    async with lab(api, 1.0, random.Random(3)) as (one, cluster):
        assert {s.type for s in cluster.services} == {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}
        assert max(len(s.endpoints) for s in cluster.services) == BIG
        assert any(s.headless and not s.endpoints for s in cluster.services)
        assert any(s.of_family(4) and s.of_family(6) for s in cluster.services)
        assert not cluster.complete
        assert one.namespace in cluster.namespaces
        assert one.address() != one.address()
    assert made(api) == []


async def test_a_failure_leaves_nothing() -> None:
    """An API server that stops to take objects half way."""
    api = FakeApi()
    api.refuse = "endpointslices"
    with pytest.raises(ConformanceError, match="403"):
        async with lab(api, 1.0, random.Random(3)):
            pytest.fail("it cannot be open")
    assert made(api) == []


async def test_an_interruption_leaves_nothing() -> None:
    """Cancelled while checks run."""
    api = FakeApi()
    entered = asyncio.Event()

    async def work() -> None:
        async with lab(api, 1.0, random.Random(3)):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    assert made(api)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made(api) == []


async def test_what_cannot_be_removed_is_named() -> None:
    """The namespace, and the reason."""

    class Stuck(FakeApi):
        async def delete(self, path: str) -> None:
            raise ConformanceError(f"409 {path}")

    one = Lab(Stuck(), "n", 7, 1.0)
    await one.open()
    with pytest.raises(ConformanceError, match="namespace n could not be removed: 409"):
        await one.close()


def test_runs_do_not_share_addresses() -> None:
    """Two blocks, no address in both."""
    sets = [{a for item in objects(block) for e in item.get("endpoints", ()) for a in e["addresses"]} for block in (1, 2)]
    assert sets[0]
    assert not sets[0] & sets[1]
