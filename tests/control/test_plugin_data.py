"""The data of plugins: gathered for a Corefile, refreshed at intervals. Errors in plugins' hooks do not stop this."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from svcdns.control import plugin_data
from svcdns.control.configuration import Setup, check, prepare
from svcdns.control.plugin_data import (
    DataKey,
    PluginData,
    PluginFiles,
    Refresher,
    gather,
    gather_in_threads,
    plugin_files,
)
from svcdns.corefile.blocks import Position
from svcdns.corefile.load import load
from svcdns.errors import SvcdnsError
from svcdns.plugin_api.errors import HookError
from svcdns.process import blocking_io
from svcdns.process.blocking_io import BlockedError, BlockingCalls

ZONE = "@ 60 IN SOA ns root {} 2 3 4 5\nwww 60 IN A 10.0.0.1\n"
WHERE = Position("Corefile", 3, 5)


class Module:
    """A plugin module whose hooks raise an error if the test sets one."""

    def __init__(self, name: str, seconds: float = 0.001) -> None:
        """Creates a plugin module with data under the key `key`."""
        self.name, self.seconds, self.count = name, seconds, 0
        self.error: Exception | None = None

    def gather(self, _options: Any, _known: Any) -> dict[str, bytes]:
        """Returns the data, or raises `error` if it is set."""
        self.count += 1
        if self.error is not None:
            raise self.error
        return {"key": b"%d" % self.count}

    refresh = gather

    def period(self, _options: Any) -> float:
        return self.seconds


def files(module: Any, name: str = "one") -> PluginFiles:
    """Returns the files of a plugin with this module."""
    return PluginFiles(name, module, None, WHERE)


def setup(folder: Path, text: str) -> Setup:
    """Returns the setup of a Corefile."""
    path = folder / "Corefile"
    path.write_text(text)
    return prepare(str(path), 53)


# -- for a Corefile


@pytest.mark.parametrize("error", [ValueError("boom"), KeyError("x"), AssertionError()])
def test_an_exception_of_a_hook_names_the_plugin(error: Exception) -> None:
    module = Module("one")
    module.error = error
    with pytest.raises(HookError, match=rf"^Corefile:3:5 - plugin/one: gather failed: {type(error).__name__}"):
        gather([files(module)], {})
    module.error = SvcdnsError("no such file")
    with pytest.raises(SvcdnsError, match=r"^no such file$"):
        gather([files(module)], {})


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "it returned NoneType; a dict with the bytes of each file was expected"),
        ({"path": "text"}, "it returned a dict with str: str; str: bytes was expected"),
        ({Path("path"): b"octets"}, "it returned a dict with PosixPath: bytes; str: bytes was expected"),
    ],
)
def test_a_wrong_type_from_gather_is_an_error(found: object, text: str) -> None:
    module = Module("one")
    module.gather = lambda *_: found  # type: ignore[assignment,method-assign]
    with pytest.raises(HookError) as raised:
        gather([files(module)], {})
    assert str(raised.value).endswith(f"gather failed: TypeError: {text}")


async def test_a_file_that_hangs_fails_the_reload_after_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the plugin's name and the line of its directive. A FIFO without a writer hangs."""
    monkeypatch.setattr(plugin_data, "READ_LIMIT", 0.01)
    os.mkfifo(tmp_path / "hosts")
    (tmp_path / "Corefile").write_text(f". {{\n hosts {tmp_path}/hosts\n}}\n")
    made = check(load(str(tmp_path / "Corefile"), environ={}, default_port=53))
    with pytest.raises(BlockedError, match=r"files of the plugin hosts \(.*Corefile:2\): not done within 0\.01 s"):
        await gather_in_threads(BlockingCalls(logging.getLogger("svcdns")), plugin_files(made.plans), {})
    (tmp_path / "hosts").open("wb").close()


def test_data_of_the_last_corefile_may_be_reused(tmp_path: Path) -> None:
    """The key of *loop*'s probes, for example, survives a reload."""
    made = setup(tmp_path, ". {\n loop\n whoami\n}\n")
    found = plugin_files(made.plans)
    assert gather(found, made.data) == made.data
    assert gather(found, {}) != made.data


# -- read again


def test_a_refresh_returns_only_changed_data(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("10.0.0.1 a")
    (tmp_path / "zone").write_text(ZONE.format(1))
    made = setup(
        tmp_path, f"example.org {{\n hosts {tmp_path}/hosts\n file {tmp_path}/zone {{\n  reload 10s\n }}\n}}\n"
    )
    found = {one.plugin: one for one in plugin_files(made.plans)}
    assert {name: one.period() for name, one in found.items()} == {"hosts": 5.0, "file": 10.0}
    assert [one.refresh(made.data) for one in found.values()] == [{}, {}]
    (tmp_path / "zone").write_text(ZONE.format(2))
    assert {key.plugin for key in found["file"].refresh(made.data)} == {"file"}
    assert found["hosts"].refresh(made.data) == {}


def test_only_plugins_with_an_interval_are_refreshed(tmp_path: Path) -> None:
    """*cache* has a module named `refresh`, which is not a hook."""
    made = setup(tmp_path, ". {\n cache\n loop\n whoami\n}\n")
    assert [one.plugin for one in plugin_files(made.plans) if one.is_refreshed] == []


class World:
    """An object that refreshes plugin data, and the data that has changed."""

    def __init__(self) -> None:
        self.data: dict[DataKey, bytes] = {}
        self.errors: list[SvcdnsError] = []
        self.refresher = Refresher(
            BlockingCalls(logging.getLogger("svcdns")), self.known, self.changed, self.errors.append
        )

    def known(self) -> PluginData:
        """Returns the data in use."""
        return self.data

    async def changed(self, fresh: dict[DataKey, bytes]) -> None:
        """Keeps the new data."""
        self.data |= fresh

    async def follow(self, found: Iterable[PluginFiles], until: str) -> None:
        """Starts the refreshes, and waits until the plugin `until` has data."""
        self.refresher.follow(found)
        await self.wait(until)

    async def wait(self, until: str) -> None:
        """Waits until the plugin `until` has data."""
        async with asyncio.timeout(30):
            while DataKey(until, "key") not in self.data:
                await asyncio.sleep(0.001)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.refresher.stop()


async def test_a_refresh_that_fails_keeps_the_last_content(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same error is logged once, and the refresh is tried again."""
    monkeypatch.setattr(plugin_data, "RETRY", 0.001)
    broken, other = Module("one"), Module("two")
    await world.follow([files(broken)], until="one")
    broken.error = ZeroDivisionError("division by zero")
    async with asyncio.timeout(30):
        while not caplog.messages:
            await asyncio.sleep(0.001)
    before = world.data[DataKey("one", "key")]
    await world.follow([files(broken), files(other, "two")], until="two")
    assert world.data[DataKey("one", "key")] == before
    text = "a file cannot be read; the content that was read before stays in use"
    error = "Corefile:3:5 - plugin/one: refresh failed: ZeroDivisionError: division by zero"
    assert set(caplog.messages) == {f'{text} error="{error}"'}
    assert {type(error) for error in world.errors} == {HookError}
    broken.error = None
    async with asyncio.timeout(30):
        while world.data[DataKey("one", "key")] == before:
            await asyncio.sleep(0.001)


async def test_a_failed_refresh_is_tried_again_after_the_interval_or_earlier(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    for interval, expected in ((2.0, 2.0), (60.0, plugin_data.RETRY)):
        broken = Module("one", interval)
        broken.error = ZeroDivisionError("division by zero")
        with monkeypatch.context() as patched:
            patched.setattr("svcdns.control.plugin_data.asyncio.sleep", noted)
            pauses.clear()
            world.errors.clear()
            world.refresher.follow([files(broken)])
            async with asyncio.timeout(30):
                while len(world.errors) < 3:
                    await sleep(0.001)
            assert pauses[:3] == [interval, expected, expected]
            await world.refresher.stop()


async def test_a_file_that_hangs_delays_no_other_plugin(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blocking_io, "WARN_AFTER", 0.01)
    gate = threading.Event()
    hung = Module("one")
    hung.refresh = lambda *_: gate.wait() and {"key": b"late"}  # type: ignore[assignment,method-assign]
    await world.follow([files(hung), files(Module("two"), "two")], until="two")
    async with asyncio.timeout(30):
        line = 'file access is slow: still waiting files="files of the plugin one (Corefile:3)" seconds=0.01'
        while line not in caplog.messages:
            await asyncio.sleep(0.001)
    assert [key.plugin for key in world.data] == ["two"]
    gate.set()
    await world.wait("one")


async def test_blocks_that_import_a_snippet_share_one_refresh_task(world: World) -> None:
    module = Module("one", seconds=30.0)
    world.refresher.follow([files(module), files(module)])
    assert len(world.refresher._tasks) == 1


# -- watched


class Watching(Module):
    """A plugin module with one source for each of its options, which the test publishes for."""

    def __init__(self) -> None:
        super().__init__("one")
        self.publish: dict[str, Any] = {}
        self.ended: list[str] = []
        self.failures = 0

    def sources(self, options: str) -> tuple[str, ...]:
        return tuple(options.split())

    async def watch(self, source: str, publish: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("boom")
        self.publish[source] = publish
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(source)


def watched(module: Module, sources: str, line: int = 3) -> PluginFiles:
    return PluginFiles("one", module, sources, Position("Corefile", line, 5))


async def test_watched_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a watch publishes is put to use if it differs. A source that a new Corefile has too is not interrupted."""
    monkeypatch.setattr(plugin_data, "RETRY", 0.0)
    module, known, taken = Watching(), {DataKey("one", "a"): b"1"}, []
    module.failures = 1
    failed: list[SvcdnsError] = []

    async def changed(fresh: dict[DataKey, bytes]) -> None:
        taken.append(fresh)

    refresher = Refresher(BlockingCalls(logging.getLogger("svcdns")), lambda: known, changed, failed.append)

    async def until_watched(*sources: str) -> None:
        async with asyncio.timeout(10):
            while not all(source in module.publish for source in sources):
                await asyncio.sleep(0)

    refresher.follow([watched(module, "x"), watched(module, "x", 9)])
    await until_watched("x")
    assert [str(error).partition("watch failed: ")[2] for error in failed] == ["ValueError: boom"]
    await module.publish["x"]({"a": b"1", "b": b"2"})
    await module.publish["x"]({"a": b"1"})
    assert taken == [{DataKey("one", "b"): b"2"}]
    refresher.follow([watched(module, "x y", 5)])
    await until_watched("x", "y")
    assert module.ended == []
    refresher.follow([watched(module, "y")])
    await asyncio.sleep(0)
    assert module.ended == ["x"]
    await refresher.stop()
    assert module.ended == ["x", "y"]
