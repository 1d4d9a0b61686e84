"""The cluster views: which clusters are watched, over reloads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.cluster.changes import Complete, Confirmed, Kind
from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions
from svcdns.control.cluster_view import Difference, Key, View
from svcdns.control.cluster_views import SURVIVED, Views, shown_ages
from svcdns.control.configuration import Watched
from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.process.shared_memory import REGION_SIZE
from svcdns.telemetry.counters import Counters
from tests.support import world
from tests.support.api_double import SERVICES, SLICES, ApiDouble, Fault, endpoint_slice, service

WHERE = Position("Corefile", 3, 5)


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    """One headless Service with its slice."""
    with ApiDouble([service("db"), endpoint_slice("db-1", "db", "10.0.0.1")]) as double:
        yield double


class World:
    """Views, and what they told."""

    def __init__(self, counters: Counters | None = None, *, again: bool = False, ages: dict[str, float] | None = None) -> None:
        """Nothing is watched yet; `ages` are those that a control before has shown."""
        self.counters = counters or Counters()
        self.told: list[Difference] = []
        self.sizes: list[int] = []
        """How many Services were known when each of them was told."""
        self.slept: list[float] = []
        self.wake = asyncio.Event()
        log = logging.getLogger("views-test")
        self.views = Views(self.counters, log, self._tell, lambda: 1767323050.0, again=again, ages=ages or {}, sleep=self.sleep)

    def _tell(self, view: View, what: Difference) -> None:
        self.told.append(what)
        self.sizes.append(len(list(view.keys(Kind.SERVICE))))

    async def sleep(self, seconds: float) -> None:
        """Sleeps until woken; how long it was to be is noted."""
        self.slept.append(seconds)
        await self.wake.wait()
        self.wake.clear()

    async def until(self, name: str) -> None:
        """Waits until an object of that name was told of."""
        async with asyncio.timeout(10):
            while not any(isinstance(one, Key) and one.name == name for one in self.told):
                await asyncio.sleep(0.001)

    @property
    def view(self) -> View:
        """The one view that there is."""
        [found] = self.views.by_number.values()
        return found


def watched(snapshot: SnapshotOptions | None = None, **options: object) -> dict[bytes, Watched]:
    """One view to watch."""
    return {repr(options).encode(): Watched(WatchOptions(**options), WHERE, snapshot)}  # type: ignore[arg-type]


async def test_a_view_is_followed_until_nobody_wants_it(api: ApiDouble) -> None:
    """The same options are the same view; it keeps its number; others get new ones."""
    made = World()
    wanted = watched(endpoint=api.url)
    [number] = await made.views.prepare(wanted)
    made.views.start([number])
    await made.until("db-1")
    assert await made.views.prepare(wanted) == []
    [other] = await made.views.prepare(watched(endpoint=api.url, labels="a=b"))
    assert other != number
    await made.views.keep(wanted)
    assert list(made.views.by_number) == [number]
    await made.views.keep({})
    assert made.views.by_number == {}
    await made.views.stop()
    later = World()
    await later.views.prepare(watched(endpoint=api.url, labels="a=b"))
    assert await later.views.prepare(wanted) == [number], "whatever came first in a later life of control"


async def test_what_cannot_be_watched_names_its_place(tmp_path: Path) -> None:
    """And leaves no view behind."""
    made = World()
    with pytest.raises(CorefileError, match=r"^Corefile:3:5 - .*plugin/kubernetes: .*none.yaml: No such file"):
        await made.views.prepare(watched(manifests=(str(tmp_path / "none.yaml"),)))
    assert made.views.by_number == {}


async def test_after_a_gap_only_what_is_different_is_told(api: ApiDouble) -> None:
    """What was deleted in an outage is gone after the relist, what came is there, and nothing else is touched for a moment."""
    made = World()
    for number in range(60):
        api.put(service(f"stays-{number}", "10.96.1.1"))
    made.views.start(await made.views.prepare(watched(endpoint=api.url)))
    await made.until("stays-59")
    async with asyncio.timeout(10):
        while not api.watching(SERVICES):
            await asyncio.sleep(0.001)
    made.told.clear()
    made.sizes.clear()
    api.lose(service("stays-7"))
    api.lose(service("db"))
    api.expire(SERVICES)
    api.put(service("new", "10.96.1.2"))
    async with asyncio.timeout(10):
        while made.view.object(Key(made.view.number, Kind.SERVICE, "default", "db")) is not None:
            await asyncio.sleep(0.001)
    await made.until("new")
    await made.views.stop()
    told = {one.name for one in made.told if isinstance(one, Key) and one.kind is Kind.SERVICE}
    assert told == {"stays-7", "db", "new"}
    assert min(made.sizes) >= 60


async def test_the_age_of_a_view(api: ApiDouble) -> None:
    """Of the oldest kind; shown by resource, the oldest of all views; manifests are never old."""
    made = World()
    [one] = await made.views.prepare(watched(endpoint=api.url))
    [other] = await made.views.prepare(watched(endpoint=api.url, labels="a=b"))
    made.views.assume(one, 100.0)
    assert made.views.ages(one).keys() == {Kind.SERVICE, Kind.NAMESPACE, Kind.ENDPOINT_SLICE}
    assert made.views.age(one) == pytest.approx(100.0, abs=5)
    assert made.views.age(other) == pytest.approx(0.0, abs=5)
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
    region = memoryview(bytearray(REGION_SIZE))
    made = World(Counters(region))
    [number] = await made.views.prepare(watched(endpoint=api.url))
    made.views.assume(number, 100.0)
    made.views.show_ages()
    later = World(ages=shown_ages(region))
    await later.views.prepare(watched(endpoint=api.url))
    assert later.views.age(number) == pytest.approx(100.0, abs=5)


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


# -- snapshots


async def keep(api: ApiDouble, folder: Path, *, ready: bool = True) -> dict[bytes, Watched]:
    """A snapshot of what the API server has; what to watch to get it."""
    wanted = watched(SnapshotOptions(str(folder), ready=ready), endpoint=api.url)
    made = World()
    made.views.start(await made.views.prepare(wanted))
    async with asyncio.timeout(10):
        while not made.view.is_listed:
            await asyncio.sleep(0.001)
    await made.views.stop()
    return wanted


def names(view: View, kind: Kind = Kind.ENDPOINT_SLICE) -> list[str]:
    """The objects of a kind."""
    return [key.name for key in view.keys(kind)]


async def test_a_stop_leaves_a_snapshot_and_a_start_takes_it_in(api: ApiDouble, tmp_path: Path) -> None:
    """Before anything is asked of the API server, which then tells the differences alone; the age is that of the snapshot until then."""
    wanted = await keep(api, tmp_path)
    api.standing = Fault(503)
    asked = len(api.requests)
    made = World()
    numbers = await made.views.prepare(wanted)
    assert len(api.requests) == asked
    assert made.views.whole(numbers)
    assert (names(made.view), names(made.view, Kind.SERVICE)) == (["db-1"], ["db"])
    assert made.views.age(made.view.number) == pytest.approx(0.0, abs=5)
    api.delete(endpoint_slice("db-1", "db", "10.0.0.1"))
    api.put(endpoint_slice("db-2", "db", "10.0.0.2"))
    api.standing = None
    made.views.start(numbers)
    await made.until("db-1")
    objects = [one for one in made.told if isinstance(one, Key | Complete)]
    assert objects == [Key(made.view.number, Kind.ENDPOINT_SLICE, "default", name) for name in ("db-2", "db-1")]
    await made.views.stop()


async def test_a_control_that_follows_another_waits_with_the_snapshot(api: ApiDouble, tmp_path: Path) -> None:
    """The workers know more than it says; it is taken in where the API server stays away."""
    wanted = await keep(api, tmp_path)
    api.standing = Fault(503)
    made = World(again=True)
    numbers = await made.views.prepare(wanted)
    assert not made.views.whole(numbers)
    made.views.start(numbers)
    await asyncio.sleep(0)
    assert (made.slept, made.told) == ([SURVIVED], [])
    made.wake.set()
    await made.until("db-1")
    assert made.told[-1] == made.view.serials
    assert {one for one in made.told if isinstance(one, Complete)} == set(map(Complete, made.view.kinds))
    await made.views.stop()


async def test_a_control_that_follows_another_has_no_use_for_it_once_it_has_listed(api: ApiDouble, tmp_path: Path) -> None:
    """What the API server says is newer."""
    wanted = await keep(api, tmp_path)
    api.delete(endpoint_slice("db-1", "db", "10.0.0.1"))
    made = World(again=True)
    made.views.start(await made.views.prepare(wanted))
    async with asyncio.timeout(10):
        while not made.view.is_listed:
            await asyncio.sleep(0.001)
    made.wake.set()
    async with asyncio.timeout(10):
        while len(made.slept) < 2:
            await asyncio.sleep(0.001)
    assert names(made.view) == []
    await made.views.stop()


async def test_readiness_on_a_snapshot(api: ApiDouble, tmp_path: Path) -> None:
    """It counts, unless it is told not to; the first lists make up for it."""
    wanted = await keep(api, tmp_path, ready=False)
    made = World()
    numbers = await made.views.prepare(wanted)
    assert made.views.unready()
    made.views.start(numbers)
    async with asyncio.timeout(10):
        while made.views.unready():
            await asyncio.sleep(0.001)
    await made.views.stop()
    other = World()
    await other.views.prepare(await keep(api, tmp_path))
    assert not other.views.unready()


async def test_a_reload_changes_the_snapshot_and_not_the_watch(api: ApiDouble, tmp_path: Path) -> None:
    """It may begin, move and end; only the file follows."""
    made = World()
    made.views.start(await made.views.prepare(watched(endpoint=api.url)))
    await made.until("db-1")
    asked = len(api.requests)
    files = []
    for options in (SnapshotOptions(str(tmp_path / "a")), SnapshotOptions(str(tmp_path / "b")), None):
        wanted = watched(options, endpoint=api.url)
        assert await made.views.prepare(wanted) == []
        await made.views.keep(wanted)
        await asyncio.sleep(0)
        made.wake.set()
        if options is not None:
            async with asyncio.timeout(10):
                while not list(Path(options.path).glob("*.snapshot")):
                    await asyncio.sleep(0.001)
        files.append(sorted(path.parent.name for path in tmp_path.rglob("*.snapshot")))
    assert files == [["a"], ["a", "b"], ["a", "b"]]
    assert len([one for one in api.requests[asked:] if not one.watch]) == 0
    await made.views.stop()


async def test_workers_are_told_of_confirmations_now_and_then(api: ApiDouble) -> None:
    """Not of each: only once it makes the data a second younger."""
    made = World()
    await made.views.prepare(watched(endpoint=api.url))
    made.views.confirm()
    assert made.told == []
    made.view.confirmed_at -= 0.5
    made.views.confirm()
    assert made.told == []
    made.view.confirmed_at -= 1
    made.views.confirm()
    assert made.told == [Confirmed(made.view.confirmed_at)]
