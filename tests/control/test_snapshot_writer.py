"""Keeping snapshots: when they are written, what is told of them."""

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
    """A view and its keeper, on a clock that is turned by hand."""

    def __init__(self, folder: Path, *, max_age: float = 0.0, watch: WatchOptions = WATCH, address: str = "http://api") -> None:
        """The API server confirms at each moment until `confirmed` is set."""
        self.now = 1000.0
        self.confirmed: float | None = None
        self.counters = Counters()
        self.view = ClusterView(1, KINDS, lambda: self.now)
        self.log = logging.getLogger("snapshots-test")
        self.pauses: list[float] = []
        self.keeper = SnapshotWriter(
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
        """Time passes at once; what is to happen at this pause happens. Ends with the last one."""
        self.pauses.append(seconds)
        self.now += seconds
        if not self.at_pause:
            raise asyncio.CancelledError
        self.at_pause.pop(0)()

    async def run(self, *steps: Callable[[], None]) -> None:
        """Runs the keeper through so many pauses."""
        self.at_pause = list(steps)
        with pytest.raises(asyncio.CancelledError):
            await self.keeper.run()

    def list(self, *names: str) -> None:
        """Lists every kind."""
        for kind in KINDS:
            self.view.apply(Begin(kind))
        self.view.apply(Put(Namespace("d")))
        for name in names:
            self.view.apply(Put(Service("d", name, ("10.0.0.1",))))
        for kind in KINDS:
            self.view.apply(Complete(kind))

    def counted(self) -> dict[tuple[str, ...], float]:
        """Metrics, without their common prefix."""
        prefix = "svcdns_kubernetes_snapshot_"
        return {(name.removeprefix(prefix), *values): value for (name, *values), value in world.counted(self.counters).items()}


def nothing() -> None:
    """A pause in which nothing happens."""


async def test_what_is_kept_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its serials; the folder is made; nothing else is left in it."""
    caplog.set_level(logging.INFO)
    one = World(tmp_path / "a" / "b")
    assert await one.keeper.read() is None
    one.list("web", "api")
    await one.keeper.update()
    other = World(tmp_path / "a" / "b")
    other.now = 1060.0
    found = await other.keeper.read()
    assert found is not None
    other.view.restore(found.objects, found.header.serials)
    assert other.view.objects() == one.view.objects()
    assert other.view.serials == Serials(1000)
    assert (one.counted(), other.counted()) == (
        {("loads_total", "absent"): 1, ("writes_total", "done"): 1},
        {("loads_total", "used"): 1},
    )
    assert "serving 3 objects from the snapshot" in caplog.text
    assert "confirmed 60 s ago" in caplog.text
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [one.keeper.path.name]
    assert one.keeper.path.stat().st_mode & 0o777 == 0o600


async def test_it_is_written_when_something_has_changed(tmp_path: Path) -> None:
    """At most every few seconds; the first lists have to be through."""
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


async def test_a_writing_that_takes_long_has_a_longer_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a fiftieth of the time goes into it."""
    one = World(tmp_path)
    one.list("web")
    at = iter([0.0, 0.4])
    monkeypatch.setattr("svcdns.control.snapshot_writer.time.perf_counter", lambda: next(at))
    await one.run(nothing)
    assert one.pauses == [EVERY, REST * 0.4]


async def test_a_confirmation_alone_is_noted_now_and_then(tmp_path: Path) -> None:
    """The file is not written anew for it."""
    one = World(tmp_path)
    one.list("web")
    await one.keeper.update()
    number = one.keeper.path.stat().st_ino
    times = []
    for one.now in (1020.0, 1030.0, 1031.0, 1061.0):
        await one.keeper.update()
        found = await World(tmp_path).keeper.read()
        assert found is not None
        times.append(found.confirmed)
    assert times == [1000.0, 1030.0, 1030.0, 1061.0]
    assert one.keeper.path.stat().st_ino == number


async def test_a_change_shows_in_the_file_as_it_was_when_the_writing_began(tmp_path: Path) -> None:
    """What changes meanwhile is in the next one."""
    one = World(tmp_path)
    one.list(*[f"web-{number}" for number in range(1000)])
    writing = asyncio.create_task(one.keeper.update())
    await asyncio.sleep(0)
    one.view.apply(Put(Service("d", "web-0", ("10.9.9.9",))))
    await writing
    for expected in ("10.0.0.1", "10.9.9.9"):
        found = await World(tmp_path).keeper.read()
        assert found is not None
        assert msgspec.msgpack.decode(found.objects[Kind.SERVICE]["d", "web-0"], type=Service).cluster_ips == (expected,)
        await one.keeper.update()


async def test_a_view_from_a_snapshot_is_written_once_it_was_listed(tmp_path: Path) -> None:
    """Half a list over an old state is nobody's state."""
    one = World(tmp_path)
    one.list("web")
    await one.keeper.update()
    other = World(tmp_path)
    found = await other.keeper.read()
    assert found is not None
    other.view.restore(found.objects, found.header.serials)
    other.keeper.restored(found.confirmed)
    other.view.apply(Begin(Kind.SERVICE))
    other.view.apply(Put(Service("d", "new", ("10.0.0.7",))))
    await other.keeper.update()
    assert other.counted() == {("loads_total", "used"): 1}
    other.list("new")
    await other.keeper.update()
    assert other.counted() == {("loads_total", "used"): 1, ("writes_total", "done"): 1}


async def test_what_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And counted each time; it goes on when it can, and says so."""
    caplog.set_level(logging.INFO)
    (tmp_path / "a").write_text("")
    one = World(tmp_path / "a")
    one.list("web")
    await one.keeper.update()
    await one.keeper.update()
    (tmp_path / "a").unlink()
    await one.keeper.update()
    assert one.counted() == {("writes_total", "failed"): 2, ("writes_total", "done"): 1}
    lines = [record.message.replace(str(one.keeper.path), "PATH") for record in caplog.records]
    assert lines == ["cannot write the snapshot PATH: file exists", "the snapshot PATH is written again"]


async def test_a_writing_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file before it stays; what a killed writer left goes with the next one."""
    one = World(tmp_path)
    one.list("web")
    await one.keeper.update()
    before = one.keeper.path.read_bytes()
    left = tmp_path / f".{one.keeper.path.name}-1"
    left.write_text("half")
    os.utime(left, (0, 0))
    one.view.apply(Put(Service("d", "web", ("10.9.9.9",))))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("svcdns.control.snapshot_writer.os.fsync", full)
    await one.keeper.update()
    assert list(tmp_path.iterdir()) == [one.keeper.path]
    assert one.keeper.path.read_bytes() == before
    assert one.counted() == {("writes_total", "done"): 1, ("writes_total", "failed"): 1}


async def test_a_disk_that_hangs_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a start nor a stop; one writing waits, and no second one begins."""
    monkeypatch.setattr("svcdns.control.snapshot_writer.TIMEOUT", 0.01)
    hanging, calls = threading.Event(), []

    def hang(*_: object) -> None:
        calls.append(1)
        hanging.wait(30)

    monkeypatch.setattr("svcdns.control.snapshot_writer.snapshot_file.read", hang)
    monkeypatch.setattr("svcdns.control.snapshot_writer.os.fsync", hang)
    one = World(tmp_path)
    try:
        assert await one.keeper.read() is None
        assert "could not be read within 0.01 s" in caplog.text
        one.list("web")
        await one.keeper.finish()
        await one.keeper.update()
        await one.keeper.finish()
        assert len(calls) == 2
        assert list(tmp_path.glob("*.snapshot")) == []
    finally:
        hanging.set()


async def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    """With the next look."""
    one = World(tmp_path)
    one.list("web")
    await one.keeper.update()
    one.keeper.path.unlink()
    one.now += 100
    await one.keeper.update()
    await one.keeper.update()
    assert one.keeper.path.exists()


async def test_other_watch_options_are_another_file(tmp_path: Path) -> None:
    """Two blocks with one folder never overwrite each other."""
    one, other = World(tmp_path), World(tmp_path, watch=WatchOptions(endpoint="http://api", labels="a=b"))
    one.list("web")
    other.list("api")
    await one.keeper.update()
    await other.keeper.update()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "now", "reason"),
    [
        pytest.param({"max_age": 60.0}, 1061.0, "confirmed 61 s ago, more than max_age of 60 s", id="too old"),
        pytest.param({"address": "http://other"}, 1000.0, "another cluster: that at http://api", id="another cluster"),
    ],
)
async def test_what_cannot_be_used_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, object], now: float, reason: str
) -> None:
    """One line, with the file and the reason; it is counted, and no error."""
    one = World(tmp_path)
    one.list("web")
    await one.keeper.update()
    other = World(tmp_path, **options)  # type: ignore[arg-type]
    other.now = now
    assert await other.keeper.read() is None
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"snapshot {one.keeper.path} is not used: ")
    assert reason in line
    assert other.counted() == {("loads_total", "refused"): 1}


async def test_a_clock_that_went_back_makes_no_snapshot_too_old(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its age is not known then, and it is used."""
    one = World(tmp_path)
    one.list("web")
    await one.keeper.update()
    other = World(tmp_path, max_age=60.0)
    other.now = 10.0
    assert await other.keeper.read() is not None
    assert "confirmed at a time in the future" in caplog.text
