"""The control process. The test is its supervisor and its only worker."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from svcdns.control import process, setups
from svcdns.control.configuration import Setup
from svcdns.control.endpoints import Pages
from svcdns.control.page_sockets import PageSockets
from svcdns.control.plugin_data import DataKey
from svcdns.control.priority import Priority
from svcdns.control.process import Control
from svcdns.control.setups import Options
from svcdns.corefile.blocks import Corefile
from svcdns.corefile.load import load
from svcdns.feed.frames import Configure, Configured, Data, FrameReader, Swap, ToWorker, frame
from svcdns.plugin_api.settings import ReloadInterval
from svcdns.plugins import BUILT
from svcdns.process.channel import Channel
from svcdns.process.shared_memory import REGION_SIZE, REGIONS, State, control_region, heartbeat, reset, worker_region
from tests.support import fifos
from tests.support.world import counted

OWN = control_region(0)
PAYLOAD = "10.0.0.1 a\n"


class _Priority(Priority):
    """Records when the priority is lowered."""

    def __init__(self, operations: list[str]) -> None:
        super().__init__()
        self._operations = operations

    def lower(self) -> None:
        self._operations.append("lower priority")


class World:
    """A control process, with the test as its supervisor and only worker."""

    def __init__(self, folder: Path, text: str, *, again: bool = False) -> None:
        """Creates a control process that is not started yet. `text` is the Corefile.

        If `again` is true, an earlier control process has served.
        """
        self.corefile = folder / "Corefile"
        self.corefile.write_text(text)
        self.operations: list[str] = []
        ours, theirs = socket.socketpair()
        self.supervisor = Channel(ours)
        self.regions = [memoryview(bytearray(REGION_SIZE if n == OWN else 64)) for n in range(REGIONS)]
        self.control = Control(
            Options(str(self.corefile), 53, quiet=True, again=again),
            Channel(theirs),
            self.regions,
            OWN,
            _Priority(self.operations),
        )
        self.worker: socket.socket | None = None
        self.frames: list[ToWorker] = []
        self.hold = False
        """The worker sends no Configured."""
        self.refuse_listening = False
        """The supervisor opens no more DNS ports."""
        self.closes: list[bool] = []
        """For each message `lame`, whether connections are to be closed."""
        self.running: asyncio.Task[int] | None = None

    async def start(self) -> None:
        """Starts control. The test acts as its supervisor."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.supervisor.fileno(), self._supervise)
        self.running = asyncio.create_task(self.control.run())

    def _supervise(self) -> None:
        for message in self.supervisor.receive():
            self.operations.append(message["op"])
            if message["op"] == "lame":
                self.closes.append(message.get("close", False))
            if message["op"] == "workers":
                ours, theirs = socket.socketpair()
                self.worker, self._reader = ours, FrameReader[ToWorker](ToWorker)
                ours.setblocking(False)
                asyncio.get_running_loop().add_reader(ours, self._work)
                reset(self.regions[worker_region(0, 0)], State.SYNCED)
                self.supervisor.send({"op": "worker", "slot": 0, "region": worker_region(0, 0)}, [theirs.fileno()])
                theirs.close()
            if message["op"] == "listen":
                error = "Listen: cannot assign requested address" if self.refuse_listening else ""
                self.supervisor.send({"op": "listening", "ok": not error, "error": error})

    def _work(self) -> None:
        assert self.worker is not None
        self._reader.feed(self.worker.recv(1 << 20))
        for content in self._reader.frames():
            self.frames.append(content)
            if isinstance(content, Configure) and not self.hold:
                self.built(content)

    def built(self, configure: Configure) -> None:
        """Reports, as the worker, that the chains are built."""
        assert self.worker is not None
        self.worker.send(frame(Configured(configure.generation)))

    async def until(self, condition: Any) -> None:
        """Waits until `condition` returns something true."""
        async with asyncio.timeout(30):
            while not condition():
                assert self.running is not None
                if self.running.done():
                    raise AssertionError(f"control has ended with code {self.running.result()}")
                await asyncio.sleep(0.001)

    async def serving(self) -> None:
        """Waits until the control process reports that it serves."""
        await self.start()
        await self.until(lambda: "serving" in self.operations)

    def reload(self) -> None:
        """Requests a reload of the Corefile from the control process."""
        self.supervisor.send({"op": "reload"})

    def swaps(self) -> int:
        """Returns the number of times that the worker got the frame Swap."""
        return sum(isinstance(one, Swap) for one in self.frames)

    def data(self, plugin: str) -> list[bytes]:
        """Returns the plugin data that the worker got for a plugin."""
        return [one.payload for one in self.frames if isinstance(one, Data) and one.plugin == plugin]

    async def end(self) -> None:
        """Stops control and closes the connections to it."""
        if self.running is not None:
            self.supervisor.send({"op": "exit"})
            async with asyncio.timeout(30):
                await self.running
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.supervisor.fileno())
        self.supervisor.close()
        self.control._channel.close()
        if self.worker is not None:
            loop.remove_reader(self.worker)
            self.worker.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Creates a control process with a hosts file, and stops it after the test."""
    (tmp_path / "hosts").write_text(PAYLOAD)
    made = World(tmp_path, f". {{\n hosts {tmp_path}/hosts\n whoami\n}}\n")
    level = logging.getLogger("svcdns").level
    yield made
    await made.end()
    logging.getLogger("svcdns").setLevel(level)


async def test_a_start_and_a_reload(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await world.serving()
    assert world.operations == ["format", "workers", "listen", "lower priority", "serving"]
    assert len(world.data("hosts")) == 1
    world.reload()
    await world.until(lambda: world.swaps() == 2)
    await world.until(lambda: "Reloading complete" in caplog.messages)


async def test_a_start_without_a_cluster_opens_the_ports_first(world: World) -> None:
    """Queries wait in the sockets until the workers have built their chains."""
    world.hold = True
    await world.start()
    await world.until(lambda: "listen" in world.operations and any(isinstance(one, Configure) for one in world.frames))
    assert world.swaps() == 0
    world.built(next(one for one in world.frames if isinstance(one, Configure)))
    await world.until(lambda: "serving" in world.operations and world.swaps() == 1)


async def test_a_start_with_a_cluster_opens_the_ports_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PAGES_DELAY", 0.0)
    (tmp_path / "cluster.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: d}\n")
    text = f". {{\n kubernetes cluster.local {{\n  manifests {tmp_path}/cluster.yaml\n }}\n health 127.0.0.1:0\n}}\n"
    world = World(tmp_path, text)
    world.hold = True
    served: list[list[str]] = []
    serve = Pages.serve

    async def note(pages: Pages, setup: Setup, sockets: PageSockets | None = None) -> None:
        served.append(list(world.operations))
        await serve(pages, setup, sockets)

    monkeypatch.setattr(Pages, "serve", note)
    await world.start()
    try:
        await world.until(lambda: served and any(isinstance(one, Configure) for one in world.frames))
        assert "listen" not in world.operations
        world.built(next(one for one in world.frames if isinstance(one, Configure)))
        await world.until(lambda: "serving" in world.operations)
        assert world.operations == ["format", "workers", "lower priority", "listen", "serving"]
    finally:
        await world.end()


async def test_clients_of_the_pages_wait_while_a_start_opens_the_dns_ports(tmp_path: Path) -> None:
    """The sockets of the pages listen before the DNS ports are opened, so no client is refused."""
    world = World(tmp_path, ". {\n health 127.0.0.1:0\n ready 127.0.0.1:0\n whoami\n}\n")
    world.hold = True
    await world.start()
    try:
        await world.until(lambda: any(isinstance(one, Configure) for one in world.frames))
        waiting = [sock for group in world.control._page_sockets.values() for sock in group]
        assert "serving" not in world.operations
        assert waiting
        for sock in waiting:
            socket.create_connection(sock.getsockname(), timeout=30).close()
        world.built(next(one for one in world.frames if isinstance(one, Configure)))
        await world.until(lambda: "serving" in world.operations)
        assert not world.control._page_sockets
    finally:
        await world.end()


async def test_lame_duck_has_two_halves(tmp_path: Path) -> None:
    """Connections are closed only in the second half. Control exits when the supervisor says so."""
    world = World(tmp_path, ". {\n health 127.0.0.1:0 {\n  lameduck 10ms\n }\n whoami\n}\n")
    await world.serving()
    try:
        world.supervisor.send({"op": "stop"})
        await world.until(lambda: "stopping-done" in world.operations)
        assert world.operations[-3:] == ["lame", "lame", "stopping-done"]
        assert world.closes == [False, True]
    finally:
        await world.end()


async def test_a_stop_ends_a_start_that_waits_for_a_usable_corefile(tmp_path: Path) -> None:
    """A control process that is started again waits until the Corefile can be used."""
    world = World(tmp_path, ". {\n no_such_plugin\n}\n", again=True)
    await world.start()
    try:
        await world.until(lambda: "format" in world.operations)
        world.supervisor.send({"op": "stop"})
        await world.until(lambda: "stopping-done" in world.operations)
    finally:
        await world.end()


async def test_commands_run_at_a_start_a_reload_and_a_stop(tmp_path: Path) -> None:
    """The commands of *on* run when a Corefile is served. Those for a stop end before workers do."""
    program = tmp_path / "note"
    program.write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/events\n")
    program.chmod(0o700)
    events = "\n".join(f" on {event} {program} {event}" for event in ("startup", "shutdown", "certrenew"))

    def noted() -> list[str]:
        return (tmp_path / "events").read_text().split() if (tmp_path / "events").exists() else []

    world = World(tmp_path, f". {{\n{events}\n whoami\n}}\n")
    await world.serving()
    try:
        await world.until(lambda: noted() == ["startup"])
        world.reload()
        await world.until(lambda: noted() == ["startup", "startup"])
        world.supervisor.send({"op": "stop"})
        await world.until(lambda: "stopping-done" in world.operations)
        assert noted() == ["startup", "startup", "shutdown"]
    finally:
        await world.end()


# -- files that hang


async def test_a_corefile_that_hangs_costs_no_heartbeat(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HEARTBEAT", 0.01)
    await world.serving()
    world.corefile.unlink()
    os.mkfifo(world.corefile)
    world.reload()
    before = heartbeat(world.regions[OWN])
    await world.until(lambda: heartbeat(world.regions[OWN]) > before)
    await world.control._take_data({DataKey("hosts", "other"): b"new"})
    await world.until(lambda: b"new" in world.data("hosts"))
    assert world.swaps() == 1
    await fifos.write(world.corefile, ". {\n chaos\n whoami\n}\n")
    await world.until(lambda: world.swaps() == 2)


# -- reload and changes of files


async def test_a_change_of_files_waits_for_the_reload(world: World) -> None:
    """Plugin data that changes during a reload is applied to the new configuration."""
    await world.serving()
    world.hold = True
    world.corefile.write_text(world.corefile.read_text().replace("whoami", "chaos"))
    world.reload()
    await world.until(lambda: isinstance(world.frames[-1], Configure) and world.swaps() == 1)
    changing = asyncio.create_task(world.control._take_data({DataKey("hosts", "other"): b"new"}))
    await asyncio.sleep(0.01)
    assert b"new" not in world.data("hosts")
    world.built(next(one for one in reversed(world.frames) if isinstance(one, Configure)))
    await world.until(lambda: world.swaps() == 2)
    await changing
    await world.until(lambda: world.data("hosts")[-1] == b"new")
    assert "chaos" in world.control._serving.plans[0].options
    assert world.control._serving.data[DataKey("hosts", "other")] == b"new"


async def test_a_failed_reload_does_not_undo_a_change_of_files(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.serving()
    world.hold = True
    world.corefile.write_text(world.corefile.read_text().replace("whoami", "chaos"))
    world.reload()
    await world.until(lambda: isinstance(world.frames[-1], Configure) and world.swaps() == 1)
    changing = asyncio.create_task(world.control._take_data({DataKey("hosts", "other"): b"new"}))
    await asyncio.sleep(0.01)
    configure = next(one for one in reversed(world.frames) if isinstance(one, Configure))
    assert world.worker is not None
    world.worker.send(frame(Configured(configure.generation, "no such thing")))
    await changing
    assert "SIGUSR1: no such thing" in caplog.messages
    assert "whoami" in world.control._serving.plans[0].options
    assert world.control._serving.data[DataKey("hosts", "other")] == b"new"
    await world.until(lambda: world.data("hosts")[-1] == b"new")


BAD = (
    ". {\n whoami }\n",
    ". {\n whoami\n nosuchplugin\n}\n",
    ". {\n cache {\n  nosuchoption\n }\n}\n",
    ". {\n whoami\n import absent.conf\n}\n",
)
"""Errors of syntax, of a directive, of an option and of an import."""


def failures(world: World) -> float:
    """Returns the number of failed reloads that were counted."""
    return counted(world.control._counters).get(("coredns_reload_failed_total",), 0.0)


async def test_a_failed_reload_counts_once_for_each_change(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong Corefile may be read many times, but is logged and counted once."""
    monkeypatch.setattr(Setup, "reload", ReloadInterval(0.001, 0.0))
    good, reads = world.corefile.read_text(), 0

    def read(*arguments: Any, **options: Any) -> Corefile:
        nonlocal reads
        reads += 1
        return load(*arguments, **options)

    async def again() -> None:
        before = reads
        await world.until(lambda: reads > before + 3)

    monkeypatch.setattr(setups, "load", read)
    await world.serving()
    assert failures(world) == 0
    for number, text in enumerate((*BAD, BAD[0], good, BAD[0]), 1):
        new = world.corefile.with_name("new")
        new.write_text(text)
        new.rename(world.corefile)
        await again()
        assert failures(world) == (number if number <= 5 else number - 1)
    lines = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(lines) == 6
    assert all(line.startswith("Corefile changed but reload failed: ") for line in lines)
    assert len([line for line in caplog.messages if line.startswith("Corefile parse failed: ")]) == 4
    assert len([line for line in caplog.messages if line.startswith("Restart failed: ")]) == 2


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Returns the level of each log line, and its text without the details of the error."""
    found = (
        re.sub(r"(SIGUSR1: loading updated Caddyfile|failed|SIGUSR1): .*", r"\1", one.getMessage())
        for one in caplog.records
    )
    return [(record.levelname, text) for record, text in zip(caplog.records, found, strict=True)]


@pytest.mark.parametrize(
    ("text", "by_reload", "by_signal"),
    [
        pytest.param(
            BAD[0],
            [("WARNING", "Corefile parse failed"), ("ERROR", "Corefile changed but reload failed")],
            [("INFO", "Reloading"), ("WARNING", "Restart failed"), ("ERROR", "SIGUSR1")],
            id="syntax",
        ),
        pytest.param(
            BAD[1],
            [("INFO", "Reloading"), ("WARNING", "Restart failed"), ("ERROR", "Corefile changed but reload failed")],
            [("INFO", "Reloading"), ("WARNING", "Restart failed"), ("ERROR", "SIGUSR1")],
            id="directive",
        ),
        pytest.param(
            ". {\n bind 192.0.2.1\n whoami\n}\n",
            [("INFO", "Reloading"), ("WARNING", "Restart failed"), ("ERROR", "Corefile changed but reload failed")],
            [("INFO", "Reloading"), ("WARNING", "Restart failed"), ("ERROR", "SIGUSR1")],
            id="bind",
        ),
        pytest.param(
            None,
            [("ERROR", "Corefile changed but reload failed")],
            [("ERROR", "SIGUSR1: loading updated Caddyfile")],
            id="no-file",
        ),
    ],
)
@pytest.mark.parametrize("by_signal_only", [False, True], ids=["reload", "signal"])
async def test_the_lines_of_a_failed_reload(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str | None,
    by_reload: list[tuple[str, str]],
    by_signal: list[tuple[str, str]],
    by_signal_only: bool,
) -> None:
    """The lines are those of CoreDNS. Exactly one of them has the level ERROR."""
    caplog.set_level(logging.INFO)
    if not by_signal_only:
        monkeypatch.setattr(Setup, "reload", ReloadInterval(0.001, 0.0))
    await world.serving()
    caplog.clear()
    if text is None:
        world.corefile.unlink()
    else:
        new = world.corefile.with_name("new")
        new.write_text(text)
        world.refuse_listening = True
        new.rename(world.corefile)
    if by_signal_only:
        world.reload()
    wanted = by_signal if by_signal_only else by_reload
    await world.until(lambda: len(caplog.records) >= len(wanted))
    assert lines_of(caplog) == wanted
    assert failures(world) == 1


async def test_a_signal_logs_a_wrong_corefile_each_time(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The signal is SIGUSR1. The failure is still counted once for each change of the file."""
    await world.serving()
    world.corefile.write_text(BAD[1])
    for number in (1, 2):
        world.reload()
        await world.until(lambda number=number: sum(line.startswith("SIGUSR1: ") for line in caplog.messages) == number)
    await world.until(lambda: failures(world) == 1)


# -- hooks of plugins that raise


def raising(*_arguments: object) -> None:
    """A hook that raises ZeroDivisionError."""
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize("hook", ["parse", "gather", "PLUGIN.settings"])
async def test_a_hook_that_raises_fails_the_reload(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hook: str
) -> None:
    await world.serving()
    monkeypatch.setattr(f"{BUILT['hosts']}.{hook}", raising)
    world.reload()
    line = f"plugin/hosts: {hook.rpartition('.')[2]} failed: ZeroDivisionError: division by zero"
    await world.until(lambda: any(line in message for message in caplog.messages))
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [message.startswith("SIGUSR1: ") for message in errors if line in message] == [True]
    assert world.running is not None
    assert not world.running.done()
    assert counted(world.control._counters)["coredns_panics_total",] == 1
    monkeypatch.undo()
    world.reload()
    await world.until(lambda: world.swaps() == 2)


@pytest.mark.parametrize("hook", ["parse", "gather"])
async def test_a_hook_that_raises_fails_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hook: str
) -> None:
    """Control exits with 1. The error line has file, line, plugin and hook (`parse` or `gather`)."""
    monkeypatch.setattr(f"{BUILT['hosts']}.{hook}", raising)
    made = World(tmp_path, ". {\n hosts\n}\n")
    await made.start()
    assert made.running is not None
    assert await made.running == 1
    assert "Corefile:2" in (error := capsys.readouterr().err)
    assert f"plugin/hosts: {hook} failed: ZeroDivisionError: division by zero" in error
    made.running = None
    await made.end()


async def test_a_refresh_that_raises_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The data from before stays in use, and control continues."""
    monkeypatch.setattr(f"{BUILT['hosts']}.period", lambda _: 0.001)
    monkeypatch.setattr(f"{BUILT['hosts']}.refresh", raising)
    await world.serving()
    await world.until(lambda: any("plugin/hosts: refresh failed" in message for message in caplog.messages))
    world.reload()
    await world.until(lambda: world.swaps() == 2)
    assert len(world.data("hosts")) == 1
