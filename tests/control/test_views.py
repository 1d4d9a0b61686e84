"""The cluster views: which clusters are watched, over reloads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.cluster.changes import Complete, Kind
from svcdns.cluster.sources.options import WatchOptions
from svcdns.control.setup import Watched
from svcdns.control.store import Key, View
from svcdns.control.views import Views
from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.telemetry.counters import Counters
from tests.support import world
from tests.support.api_double import SLICES, ApiDouble, endpoint_slice, service

WHERE = Position("Corefile", 3, 5)


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    """One headless Service with its slice."""
    with ApiDouble([service("db"), endpoint_slice("db-1", "db", "10.0.0.1")]) as double:
        yield double


class World:
    """Views, and what they told."""

    def __init__(self, counters: Counters | None = None) -> None:
        """Nothing is watched yet; `counters` are those of a control before."""
        self.counters = counters or Counters()
        self.told: list[Key | Complete] = []
        self.views = Views(self.counters, logging.getLogger("views-test"), lambda _view, what: self.told.append(what), lambda: 1767323050.0)

    async def until(self, name: str) -> None:
        """Waits until an object of that name was told of."""
        async with asyncio.timeout(10):
            while not any(isinstance(one, Key) and one.name == name for one in self.told):
                await asyncio.sleep(0.001)

    def view(self, number: int) -> View:
        """A view by its number."""
        return self.views.by_number[number]


def watched(**options: object) -> dict[bytes, Watched]:
    """One view to watch."""
    return {repr(options).encode(): Watched(WatchOptions(**options), WHERE)}  # type: ignore[arg-type]


async def test_a_view_is_followed_until_nobody_wants_it(api: ApiDouble) -> None:
    """The same options are the same view; it keeps its number; others get new ones."""
    made = World()
    wanted = watched(endpoint=api.url)
    assert await made.views.prepare(wanted) == [1]
    made.views.start([1])
    await made.until("db-1")
    assert await made.views.prepare(wanted) == []
    assert await made.views.prepare(watched(endpoint=api.url, labels="a=b")) == [2]
    await made.views.keep(wanted)
    assert list(made.views.by_number) == [1]
    await made.views.keep([])
    assert made.views.by_number == {}
    await made.views.stop()


async def test_what_cannot_be_watched_names_its_place(tmp_path: Path) -> None:
    """And leaves no view behind."""
    made = World()
    with pytest.raises(CorefileError, match=r"^Corefile:3:5 - .*plugin/kubernetes: .*none.yaml: No such file"):
        await made.views.prepare(watched(manifests=(str(tmp_path / "none.yaml"),)))
    assert made.views.by_number == {}


async def test_the_age_of_a_view(api: ApiDouble) -> None:
    """Of the oldest kind; shown by resource, the oldest of all views; manifests are never old."""
    made = World()
    await made.views.prepare(watched(endpoint=api.url))
    await made.views.prepare(watched(endpoint=api.url, labels="a=b"))
    made.views.assume(1, 100.0)
    assert made.views.ages(1).keys() == {Kind.SERVICE, Kind.NAMESPACE, Kind.ENDPOINT_SLICE}
    assert made.views.age(1) == pytest.approx(100.0, abs=5)
    assert made.views.age(2) == pytest.approx(0.0, abs=5)
    made.views.show_ages()
    shown = {
        values[0]: age for (name, *values), age in world.counted(made.counters).items() if name == "svcdns_kubernetes_view_age_seconds"
    }
    assert shown == pytest.approx(dict.fromkeys(("services", "namespaces", "endpointslices.discovery.k8s.io"), 100.0), abs=5)


async def test_manifests_are_never_old(tmp_path: Path) -> None:
    """There is nobody to be cut off from."""
    made = World()
    (tmp_path / "cluster.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
    [number] = await made.views.prepare(watched(manifests=(str(tmp_path / "cluster.yaml"),)))
    assert made.views.age(number) == 0.0


async def test_the_age_lasts_over_a_restart_of_control(api: ApiDouble) -> None:
    """The new one has not heard of the API server either."""
    made = World()
    await made.views.prepare(watched(endpoint=api.url))
    made.views.assume(1, 100.0)
    made.views.show_ages()
    later = World(made.counters)
    await later.views.prepare(watched(endpoint=api.url))
    assert later.views.age(1) == pytest.approx(100.0, abs=5)


async def test_how_long_a_change_took(api: ApiDouble) -> None:
    """From the slice's annotation; by the kind of its Service."""
    made = World()
    made.views.start(await made.views.prepare(watched(endpoint=api.url)))
    await made.until("db-1")
    async with asyncio.timeout(10):
        while not api.watching(SLICES):
            await asyncio.sleep(0.001)
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"}
    api.put(endpoint_slice("db-2", "db", "10.0.0.2", annotations=annotations))
    await made.until("db-2")
    await made.views.stop()
    found = world.counted(made.counters)
    assert found["coredns_kubernetes_dns_programming_duration_seconds", "headless_with_selector"] == 1
    requests = [value for (name, *_), value in found.items() if name == "coredns_kubernetes_rest_client_requests_total"]
    assert sum(requests) >= 6
