"""The set of cluster views of the control process, across reloads and restarts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.cluster.changes import Complete, Confirmed, Kind
from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions
from svcdns.control.cluster_view import ClusterView, Difference, ViewKey
from svcdns.control.cluster_views import SUCCESSOR_WAIT, ClusterViews, shown_ages
from svcdns.control.configuration import WatchedCluster
from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.process.shared_memory import REGION_SIZE
from svcdns.telemetry.counters import Counters
from tests.support import world
from tests.support.api_double import SERVICES, SLICES, ApiDouble, Fault, endpoint_slice, service

WHERE = Position("Corefile", 3, 5)


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    """An API server with one headless Service and its slice."""
    with ApiDouble([service("db"), endpoint_slice("db-1", "db", "10.0.0.1")]) as double:
        yield double


class World:
    """The cluster views of a control process, and the changes that they sent."""

    def __init__(
        self, counters: Counters | None = None, *, again: bool = False, ages: dict[str, float] | None = None
    ) -> None:
        """Creates the cluster views. `ages` has the ages that the previous control process reported."""
        self.counters = counters or Counters()
        self.sent: list[Difference] = []
        self.sizes: list[int] = []
        """The number of Services in the view at each difference."""
        self.slept: list[float] = []
        self.worked: list[float] = []
        """The seconds that changes have taken."""
        self.wake = asyncio.Event()
        log = logging.getLogger("views-test")
        self.views = ClusterViews(
            self.counters, log, self._send, lambda: 1767323050.0, again=again, ages=ages or {}, sleep=self.sleep,
            worked=self.worked.append,
        )  # fmt: skip

    def _send(self, view: ClusterView, difference: Difference) -> None:
        self.sent.append(difference)
        self.sizes.append(len(list(view.keys(Kind.SERVICE))))

    async def sleep(self, seconds: float) -> None:
        """Sleeps until it is woken, and records the seconds."""
        self.slept.append(seconds)
        await self.wake.wait()
        self.wake.clear()

    async def until(self, name: str) -> None:
        """Waits for a change of an object with that name."""
        async with asyncio.timeout(10):
            while not any(isinstance(one, ViewKey) and one.name == name for one in self.sent):
                await asyncio.sleep(0.001)

    @property
    def view(self) -> ClusterView:
        """Returns the only cluster view."""
        [found] = self.views.by_number.values()
        return found


def watched(snapshot: SnapshotOptions | None = None, **options: object) -> dict[bytes, WatchedCluster]:
    """Returns one cluster to watch, by its encoded options."""
    return {repr(options).encode(): WatchedCluster(WatchOptions(**options), WHERE, snapshot)}  # type: ignore[arg-type]


async def test_a_view_is_watched_until_no_block_has_its_options(api: ApiDouble) -> None:
    """Blocks with equal options share a view. A restarted control process gives the view the same identifier."""
    made = World()
    wanted = watched(endpoint=api.url)
    [number] = await made.views.prepare(wanted)
    made.views.start([number])
    await made.until("db-1")
    assert made.worked
    assert min(made.worked) > 0
    assert await made.views.prepare(wanted) == []
    [other] = await made.views.prepare(watched(endpoint=api.url, labels="a=b"))
    assert other != number
    await made.views.keep_only(wanted)
    assert list(made.views.by_number) == [number]
    await made.views.keep_only({})
    assert made.views.by_number == {}
    await made.views.stop()
    later = World()
    await later.views.prepare(watched(endpoint=api.url, labels="a=b"))
    assert await later.views.prepare(wanted) == [number], "whichever view a later control process makes first"


async def test_an_error_in_the_options_has_the_position_of_the_directive(tmp_path: Path) -> None:
    made = World()
    with pytest.raises(CorefileError, match=r"^Corefile:3:5 - .*plugin/kubernetes: .*none.yaml: No such file"):
        await made.views.prepare(watched(manifests=(str(tmp_path / "none.yaml"),)))
    assert made.views.by_number == {}


async def test_a_relist_after_an_outage_sends_differences_alone(api: ApiDouble) -> None:
    made = World()
    for number in range(60):
        api.put(service(f"stays-{number}", "10.96.1.1"))
    made.views.start(await made.views.prepare(watched(endpoint=api.url)))
    await made.until("stays-59")
    async with asyncio.timeout(10):
        while not api.watching(SERVICES):
            await asyncio.sleep(0.001)
    made.sent.clear()
    made.sizes.clear()
    api.lose(service("stays-7"))
    api.lose(service("db"))
    api.expire(SERVICES)
    api.put(service("new", "10.96.1.2"))
    async with asyncio.timeout(10):
        while made.view.object(ViewKey(made.view.number, Kind.SERVICE, "default", "db")) is not None:
            await asyncio.sleep(0.001)
    await made.until("new")
    await made.views.stop()
    changed = {one.name for one in made.sent if isinstance(one, ViewKey) and one.kind is Kind.SERVICE}
    assert changed == {"stays-7", "db", "new"}
    assert min(made.sizes) >= 60


async def test_the_age_of_a_view(api: ApiDouble) -> None:
    """The age is that of the oldest kind. The metric of a resource has the largest age in all views."""
    made = World()
    [one] = await made.views.prepare(watched(endpoint=api.url))
    [other] = await made.views.prepare(watched(endpoint=api.url, labels="a=b"))
    made.views.assume(one, 100.0)
    assert made.views.ages(one).keys() == {Kind.SERVICE, Kind.NAMESPACE, Kind.ENDPOINT_SLICE}
    assert made.views.age(one) == pytest.approx(100.0, abs=5)
    assert made.views.age(other) == pytest.approx(0.0, abs=5)
    made.views.show_ages()
    shown = {
        values[0]: age
        for (name, *values), age in world.counted(made.counters).items()
        if name == "svcdns_kubernetes_view_age_seconds"
    }
    assert shown == pytest.approx(
        dict.fromkeys(("services", "namespaces", "endpointslices.discovery.k8s.io"), 100.0), abs=5
    )


async def test_manifests_are_never_old(tmp_path: Path) -> None:
    """The age of objects from manifests is 0, because no API server confirms them."""
    made = World()
    (tmp_path / "cluster.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
    [number] = await made.views.prepare(watched(manifests=(str(tmp_path / "cluster.yaml"),)))
    assert made.views.age(number) == 0.0


async def test_applying_many_changes_lets_other_work_run(tmp_path: Path) -> None:
    """The heartbeat, for example, must not wait until a large list is applied."""
    made = World()
    text = "".join(f"---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: n{i}}}\n" for i in range(3000))
    (tmp_path / "cluster.yaml").write_text(text)
    numbers = await made.views.prepare(watched(manifests=(str(tmp_path / "cluster.yaml"),)))
    made.views.start(numbers)
    sizes = []
    async with asyncio.timeout(30):
        while not made.views.listed(numbers):
            sizes.append(len(list(made.views.by_number[numbers[0]].keys(Kind.NAMESPACE))))
            await asyncio.sleep(0)
    await made.views.stop()
    assert {size for size in sizes if 0 < size < 3000}


async def test_the_age_outlives_a_restart_of_control(api: ApiDouble) -> None:
    """No list has confirmed the objects since, so the new process continues the reported age."""
    made = World()
    region = memoryview(bytearray(REGION_SIZE))
    made = World(Counters(region))
    [number] = await made.views.prepare(watched(endpoint=api.url))
    made.views.assume(number, 100.0)
    made.views.show_ages()
    later = World(ages=shown_ages(region))
    await later.views.prepare(watched(endpoint=api.url))
    assert later.views.age(number) == pytest.approx(100.0, abs=5)


async def test_the_programming_duration_is_measured(api: ApiDouble) -> None:
    """The time is measured from the slice's trigger-time annotation, by the kind of the Service."""
    made = World()
    made.views.start(await made.views.prepare(watched(endpoint=api.url)))
    async with asyncio.timeout(10):
        while not (made.view.is_listed and api.watching(SLICES)):
            await asyncio.sleep(0.001)
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"}
    api.put(endpoint_slice("db-2", "db", "10.0.0.2", annotations=annotations))
    await made.until("db-2")

    def requests() -> float:
        counted = world.counted(made.counters).items()
        return sum(value for (name, *_), value in counted if name == "coredns_kubernetes_rest_client_requests_total")

    async with asyncio.timeout(10):
        while requests() < 6:  # a list and a watch of each of three kinds
            await asyncio.sleep(0.001)
    await made.views.stop()
    found = world.counted(made.counters)
    assert found["coredns_kubernetes_dns_programming_duration_seconds", "headless_with_selector"] == 1


# -- snapshots


async def write_snapshot(api: ApiDouble, folder: Path, *, ready: bool = True) -> dict[bytes, WatchedCluster]:
    """Writes a snapshot of the API server's objects. Returns the clusters to watch for it."""
    wanted = watched(SnapshotOptions(str(folder), ready=ready), endpoint=api.url)
    made = World()
    made.views.start(await made.views.prepare(wanted))
    async with asyncio.timeout(10):
        while not made.view.is_listed:
            await asyncio.sleep(0.001)
    await made.views.stop()
    seen = -1
    while seen != len(api.requests):  # the API server may still read requests of the views that were stopped
        seen = len(api.requests)
        await asyncio.sleep(0.02)
    return wanted


def names(view: ClusterView, kind: Kind = Kind.ENDPOINT_SLICE) -> list[str]:
    """Returns the names of the objects of a kind."""
    return [key.name for key in view.keys(kind)]


async def test_a_stop_writes_a_snapshot_and_a_start_restores_it(api: ApiDouble, tmp_path: Path) -> None:
    """The snapshot is restored before the first request. The first list changes only objects that differ."""
    wanted = await write_snapshot(api, tmp_path)
    api.standing = Fault(503)
    before = len(api.requests)
    made = World()
    numbers = await made.views.prepare(wanted)
    assert len(api.requests) == before
    assert made.views.whole(numbers)
    assert (names(made.view), names(made.view, Kind.SERVICE)) == (["db-1"], ["db"])
    assert made.views.age(made.view.number) == pytest.approx(0.0, abs=5)
    api.delete(endpoint_slice("db-1", "db", "10.0.0.1"))
    api.put(endpoint_slice("db-2", "db", "10.0.0.2"))
    api.standing = None
    made.views.start(numbers)
    await made.until("db-1")
    objects = [one for one in made.sent if isinstance(one, ViewKey | Complete)]
    assert objects == [ViewKey(made.view.number, Kind.ENDPOINT_SLICE, "default", name) for name in ("db-2", "db-1")]
    await made.views.stop()


async def test_a_successor_restores_the_snapshot_late(api: ApiDouble, tmp_path: Path) -> None:
    """After a restart of control, workers have newer data than the file. The snapshot is used only if the API server
    does not answer for a while.
    """
    wanted = await write_snapshot(api, tmp_path)
    api.standing = Fault(503)
    made = World(again=True)
    numbers = await made.views.prepare(wanted)
    assert not made.views.whole(numbers)
    made.views.start(numbers)
    await asyncio.sleep(0)
    assert (made.slept, made.sent) == ([SUCCESSOR_WAIT], [])
    made.wake.set()
    await made.until("db-1")
    assert made.sent[-1] == made.view.serials
    assert {one for one in made.sent if isinstance(one, Complete)} == set(map(Complete, made.view.kinds))
    await made.views.stop()


async def test_a_successor_that_has_listed_does_not_restore_the_snapshot(api: ApiDouble, tmp_path: Path) -> None:
    """The snapshot's objects are older than the list."""
    wanted = await write_snapshot(api, tmp_path)
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
    """With the option `not_ready`, the server is ready only after the first lists."""
    wanted = await write_snapshot(api, tmp_path, ready=False)
    made = World()
    numbers = await made.views.prepare(wanted)
    assert made.views.unready()
    made.views.start(numbers)
    async with asyncio.timeout(10):
        while made.views.unready():
            await asyncio.sleep(0.001)
    await made.views.stop()
    other = World()
    await other.views.prepare(await write_snapshot(api, tmp_path))
    assert not other.views.unready()


async def test_a_reload_changes_the_snapshot_and_not_the_watch(api: ApiDouble, tmp_path: Path) -> None:
    """A reload may add, move or remove the snapshot. The watch continues."""
    made = World()
    made.views.start(await made.views.prepare(watched(endpoint=api.url)))
    async with asyncio.timeout(10):
        while not made.view.is_listed:
            await asyncio.sleep(0.001)
    before = len(api.requests)
    files = []
    for options in (SnapshotOptions(str(tmp_path / "a")), SnapshotOptions(str(tmp_path / "b")), None):
        wanted = watched(options, endpoint=api.url)
        assert await made.views.prepare(wanted) == []
        await made.views.keep_only(wanted)
        await asyncio.sleep(0)
        made.wake.set()
        if options is not None:
            async with asyncio.timeout(10):
                while not list(Path(options.path).glob("*.snapshot")):
                    await asyncio.sleep(0.001)
        files.append(sorted(path.parent.name for path in tmp_path.rglob("*.snapshot")))
    assert files == [["a"], ["a", "b"], ["a", "b"]]
    assert len([one for one in api.requests[before:] if not one.watch]) == 0
    await made.views.stop()


async def test_confirmations_are_sent_at_most_once_a_second(api: ApiDouble) -> None:
    """A confirmation is sent if it is at least a second newer than the last one sent."""
    made = World()
    await made.views.prepare(watched(endpoint=api.url))
    made.views.confirm()
    assert made.sent == []
    made.view.confirmed_at -= 0.5
    made.views.confirm()
    assert made.sent == []
    made.view.confirmed_at -= 1
    made.views.confirm()
    assert made.sent == [Confirmed(made.view.confirmed_at)]
