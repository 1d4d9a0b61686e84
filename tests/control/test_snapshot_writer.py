"""The snapshot file of a cluster view: the times at which it is written, and the files that are refused."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from svcdns.cluster.changes import Begin, Complete, Kind, Put, Serials
from svcdns.cluster.objects import Namespace, Service
from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions
from svcdns.control.cluster_view import ClusterView
from svcdns.control.snapshot_writer import EVERY, REST, SnapshotWriter
from svcdns.sources.snapshot_file import Origin
from svcdns.telemetry.counters import Counters
from tests.support import world

KINDS = (Kind.SERVICE, Kind.NAMESPACE)
WATCH = WatchOptions(endpoint="http://api")


class World:
    """A cluster view and its snapshot writer. The test moves the clock."""

    def __init__(
        self, folder: Path, *, max_age: float = 0.0, watch: WatchOptions = WATCH, address: str = "http://api"
    ) -> None:
        """Creates the view and the writer. The view is confirmed at every moment, unless the test sets `confirmed`."""
        self.now = 1000.0
        self.confirmed: float | None = None
        self.counters = Counters()
        self.view = ClusterView(1, KINDS, lambda: self.now)
        self.log = logging.getLogger("snapshots-test")
        self.pauses: list[float] = []
        self.writer = SnapshotWriter(
            self.view,
            SnapshotOptions(str(folder), max_age),
            Origin(address),
            msgspec.msgpack.encode(watch),
            lambda: self.now if self.confirmed is None else self.confirmed,
            self.counters,
            self.log,
            now=lambda: self.now,
            sleep=self.sleep,
        )
        self.at_pause: list[Callable[[], None]] = []

    async def sleep(self, seconds: float) -> None:
        """Moves the clock, and runs the step of this pause. After the last step, ends the writer."""
        self.pauses.append(seconds)
        self.now += seconds
        if not self.at_pause:
            raise asyncio.CancelledError
        self.at_pause.pop(0)()

    async def run(self, *steps: Callable[[], None]) -> None:
        """Runs the writer with one step at each pause."""
        self.at_pause = list(steps)
        with pytest.raises(asyncio.CancelledError):
            await self.writer.run()

    def list(self, *names: str) -> None:
        """Applies complete lists of all kinds to the view. The Services have these names."""
        for kind in KINDS:
            self.view.apply(Begin(kind))
        self.view.apply(Put(Namespace("d")))
        for name in names:
            self.view.apply(Put(Service("d", name, ("10.0.0.1",))))
        for kind in KINDS:
            self.view.apply(Complete(kind))

    def counted(self) -> dict[tuple[str, ...], float]:
        """Returns the snapshot metrics without their common prefix."""
        prefix = "svcdns_kubernetes_snapshot_"
        return {
            (name.removeprefix(prefix), *values): value
            for (name, *values), value in world.counted(self.counters).items()
        }


def nothing() -> None:
    """A step that does nothing."""


async def test_a_written_snapshot_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The snapshot includes the serials. If the folder is missing, the writer creates it."""
    caplog.set_level(logging.INFO)
    one = World(tmp_path / "a" / "b")
    assert await one.writer.read() is None
    one.list("web", "api")
    await one.writer.update()
    other = World(tmp_path / "a" / "b")
    other.now = 1060.0
    found = await other.writer.read()
    assert found is not None
    other.view.restore(found.objects, found.header.serials)
    assert other.view.objects() == one.view.objects()
    assert other.view.serials == Serials(1000)
    assert (one.counted(), other.counted()) == (
        {("loads_total", "missing"): 1, ("writes_total", "done"): 1},
        {("loads_total", "used"): 1},
    )
    assert "until the API server has been listed objects=3 path=" in caplog.text
    assert "age_seconds=60" in caplog.text
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [one.writer.path.name]
    assert one.writer.path.stat().st_mode & 0o777 == 0o600


async def test_the_file_is_written_after_a_change(tmp_path: Path) -> None:
    """The file is written some seconds later, and not before all first lists are complete."""
    one = World(tmp_path)
    written: list[float] = []

    def look() -> None:
        written.append(one.counted().get(("writes_total", "done"), 0))

    def change() -> None:
        look()
        one.view.apply(Put(Service("d", "new", (f"10.0.1.{len(written)}",))))

    def begin() -> None:
        one.view.apply(Begin(Kind.SERVICE))

    await one.run(look, begin, look, lambda: one.list("web"), look, look, change, look)
    assert written == [0, 0, 1, 1, 1, 2]
    assert all(pause >= EVERY for pause in one.pauses)


async def test_a_slow_write_is_followed_by_a_long_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = World(tmp_path)
    one.list("web")
    at = iter([0.0, 0.4])
    monkeypatch.setattr("svcdns.control.snapshot_writer.time.perf_counter", lambda: next(at))
    await one.run(nothing)
    assert one.pauses == [EVERY, REST * 0.4]


async def test_a_confirmation_is_written_in_place(tmp_path: Path) -> None:
    one = World(tmp_path)
    one.list("web")
    await one.writer.update()
    number = one.writer.path.stat().st_ino
    times = []
    for one.now in (1020.0, 1030.0, 1031.0, 1061.0):
        await one.writer.update()
        found = await World(tmp_path).writer.read()
        assert found is not None
        times.append(found.confirmed)
    assert times == [1000.0, 1030.0, 1030.0, 1061.0]
    assert one.writer.path.stat().st_ino == number


async def test_a_file_has_the_state_at_the_begin_of_its_write(tmp_path: Path) -> None:
    one = World(tmp_path)
    one.list(*[f"web-{number}" for number in range(1000)])
    writing = asyncio.create_task(one.writer.update())
    await asyncio.sleep(0)
    one.view.apply(Put(Service("d", "web-0", ("10.9.9.9",))))
    await writing
    for expected in ("10.0.0.1", "10.9.9.9"):
        found = await World(tmp_path).writer.read()
        assert found is not None
        assert msgspec.msgpack.decode(found.objects[Kind.SERVICE]["d", "web-0"], type=Service).cluster_ips == (
            expected,
        )
        await one.writer.update()


async def test_a_view_from_a_snapshot_is_written_once_it_was_listed(tmp_path: Path) -> None:
    """Before, the view would be no state that the cluster ever had."""
    one = World(tmp_path)
    one.list("web")
    await one.writer.update()
    other = World(tmp_path)
    found = await other.writer.read()
    assert found is not None
    other.view.restore(found.objects, found.header.serials)
    other.writer.restored(found.confirmed)
    other.view.apply(Begin(Kind.SERVICE))
    other.view.apply(Put(Service("d", "new", ("10.0.0.7",))))
    await other.writer.update()
    assert other.counted() == {("loads_total", "used"): 1}
    other.list("new")
    await other.writer.update()
    assert other.counted() == {("loads_total", "used"): 1, ("writes_total", "done"): 1}


async def test_an_error_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The error is counted each time. The next successful write is logged."""
    caplog.set_level(logging.INFO)
    (tmp_path / "a").write_text("")
    one = World(tmp_path / "a")
    one.list("web")
    await one.writer.update()
    await one.writer.update()
    (tmp_path / "a").unlink()
    await one.writer.update()
    assert one.counted() == {("writes_total", "failed"): 2, ("writes_total", "done"): 1}
    lines = [record.message.replace(str(one.writer.path), "PATH") for record in caplog.records]
    assert lines == [
        'cannot write the snapshot path=PATH error="file exists"',
        "the snapshot is written again path=PATH",
    ]


async def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The previous file stays. The next write removes temporary files of a killed writer."""
    one = World(tmp_path)
    one.list("web")
    await one.writer.update()
    before = one.writer.path.read_bytes()
    left = tmp_path / f".{one.writer.path.name}-1"
    left.write_text("half")
    os.utime(left, (0, 0))
    one.view.apply(Put(Service("d", "web", ("10.9.9.9",))))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("svcdns.control.snapshot_writer.os.fsync", full)
    await one.writer.update()
    assert list(tmp_path.iterdir()) == [one.writer.path]
    assert one.writer.path.read_bytes() == before
    assert one.counted() == {("writes_total", "done"): 1, ("writes_total", "failed"): 1}


async def test_a_disk_that_hangs_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a start nor a stop waits, and no second write begins."""
    monkeypatch.setattr("svcdns.control.snapshot_writer.TIMEOUT", 0.01)
    hanging, calls = threading.Event(), []

    def hang(*_: object) -> None:
        calls.append(1)
        hanging.wait(30)

    monkeypatch.setattr("svcdns.control.snapshot_writer.snapshot_file.read", hang)
    monkeypatch.setattr("svcdns.control.snapshot_writer.os.fsync", hang)
    one = World(tmp_path)
    try:
        assert await one.writer.read() is None
        assert "could not be read within 0.01 s" in caplog.text
        one.list("web")
        await one.writer.finish()
        await one.writer.update()
        await one.writer.finish()
        async with asyncio.timeout(30):
            while len(calls) < 2:
                await asyncio.sleep(0.001)
        assert len(calls) == 2
        assert list(tmp_path.glob("*.snapshot")) == []
    finally:
        hanging.set()


async def test_a_file_that_was_removed_is_written_again(tmp_path: Path) -> None:
    one = World(tmp_path)
    one.list("web")
    await one.writer.update()
    one.writer.path.unlink()
    one.now += 100
    await one.writer.update()
    await one.writer.update()
    assert one.writer.path.exists()


async def test_other_watch_options_are_another_file(tmp_path: Path) -> None:
    """Two blocks with different watch options use different files in the same folder."""
    one, other = World(tmp_path), World(tmp_path, watch=WatchOptions(endpoint="http://api", labels="a=b"))
    one.list("web")
    other.list("api")
    await one.writer.update()
    await other.writer.update()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "now", "reason"),
    [
        pytest.param({"max_age": 60.0}, 1061.0, "confirmed 61 s ago, more than max_age of 60 s", id="too old"),
        pytest.param({"address": "http://other"}, 1000.0, "another cluster: http://api", id="another cluster"),
    ],
)
async def test_a_refused_file_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, object], now: float, reason: str
) -> None:
    """The log line has the file and the reason. The refusal is counted."""
    one = World(tmp_path)
    one.list("web")
    await one.writer.update()
    other = World(tmp_path, **options)  # type: ignore[arg-type]
    other.now = now
    assert await other.writer.read() is None
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"the snapshot is not used path={one.writer.path} error=")
    assert reason in line
    assert other.counted() == {("loads_total", "refused"): 1}


async def test_a_clock_that_was_set_back_makes_no_snapshot_too_old(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The age of the snapshot is then unknown, and the snapshot is used."""
    one = World(tmp_path)
    one.list("web")
    await one.writer.update()
    other = World(tmp_path, max_age=60.0)
    other.now = 10.0
    assert await other.writer.read() is not None
    assert "age_seconds=-990" in caplog.text
