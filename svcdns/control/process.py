"""The control process: from the Corefile to servers that answer, and from one Corefile to the next. It answers no DNS.

Order of a start: the Corefile is checked; workers are started and told their chains and the cluster as it comes in; when all are
synced, or the start-up time is over, the supervisor is asked to listen. A reload goes the same way beside what serves, and either takes
over as a whole or leaves everything as it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svcdns import __version__
from svcdns.control.cluster_view import Difference, View
from svcdns.control.cluster_views import Views, shown_ages
from svcdns.control.configuration import Setup, periods, prepare, refreshed, work_out
from svcdns.control.info_metrics import note_build, note_endings, note_plugins, note_version
from svcdns.control.last_good_corefile import LastGood
from svcdns.control.memory_pressure import MemoryBudget, own_memory
from svcdns.control.workers import Workers
from svcdns.corefile.load import load
from svcdns.errors import SvcdnsError
from svcdns.feed.format import handover_format
from svcdns.feed.frames import Configure
from svcdns.plugins import reload
from svcdns.process.channel import Channel, ChannelBrokenError, ChannelClosedError, Message
from svcdns.process.framing import FrameTooLargeError
from svcdns.process.shared_memory import State, other_side
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import DroppedLines, plugin_logger

if TYPE_CHECKING:
    from svcdns.control.endpoints import Pages

BEAT = 1.0
POLL = 0.02
WAITING_LINE = 0.5
RETRY = 2.0
IDLE = 10.0
"""Seconds after which a Corefile may have got other files to look at by a reload."""

log = logging.getLogger("svcdns")


class StartError(SvcdnsError):
    """The start, or a reload, cannot be done."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said, and the supervisor. `state` names the state folder.

    `again` means that a control process before this one has served, `beside` that it still does, until this one has taken over.
    """

    conf: str | None
    port: int
    quiet: bool
    again: bool = False
    beside: bool = False
    state: str | None = None


class Control:
    """Everything that is not answering DNS."""

    def __init__(self, options: Options, channel: Channel, regions: list[memoryview], own: int) -> None:
        """`regions` of the shared mapping, of which this process writes number `own`."""
        self._options, self._channel = options, channel
        # Of its predecessor, before its own counters begin: gauges do so at 0.
        ages = shown_ages(regions[other_side(own) if options.beside else own]) if options.again else {}
        self._counters = Counters(regions[own])
        self._kubernetes_log = plugin_logger("kubernetes")
        self._reload_log = plugin_logger("reload")
        self._generation = time.time_ns() // 1_000_000
        self._views = Views(self._counters, self._kubernetes_log, self._tell, again=options.again, ages=ages)
        self._workers = Workers(self._views.by_number, regions, self._generation)
        self._memory = MemoryBudget(
            self._counters, time.monotonic, self._workers.allow, self._ask_for_restart, own_memory, again=options.again
        )
        self._regions, self._own = regions, own
        self._opened: Pages | None = None
        self._setup: Setup | None = None
        self._last_good = LastGood(options.state, self._counters)
        self._listening: asyncio.Future[str] | None = None
        self._reload_asked = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._exit_asked = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    def _tell(self, view: View, difference: Difference) -> None:
        self._workers.tell(view, difference)

    @property
    def _pages(self) -> Pages:
        """The HTTP pages. Their libraries take longer to import than a snapshot takes to serve from."""
        if self._opened is None:
            from svcdns.control.endpoints import Pages

            self._opened = Pages(self._workers, self._counters, self._regions, self._own, self._is_watching, self._views.unready)
        return self._opened

    def _is_watching(self) -> bool:
        return self._setup is not None and bool(self._setup.views)

    @property
    def _serving(self) -> Setup:
        assert self._setup is not None
        return self._setup

    async def run(self) -> int:
        """Runs until told to end; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._from_supervisor)
        self._channel.send({"op": "format", "format": handover_format()})
        self._tasks.append(asyncio.create_task(self._beat()))
        ending = asyncio.create_task(self._exit_asked.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait([ending, starting], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                steps = (self._follow_corefile(), self._follow_files(), self._pages.check(lambda: self._serving), self._follow_stop())
                self._tasks += map(asyncio.create_task, steps)
                done, _ = await asyncio.wait([ending, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except SvcdnsError as error:
            return self._give_up(str(error))
        finally:
            for task in (*self._tasks, starting, ending):
                task.cancel()
            await asyncio.gather(*self._tasks, starting, return_exceptions=True)
            await self._views.stop()
            if self._opened is not None:
                await self._opened.close()
        return 0

    def _give_up(self, line: str) -> int:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
        with contextlib.suppress(ChannelClosedError):
            self._channel.send({"op": "fatal", "code": 1})
        return 1

    # -- starting

    async def _start(self) -> None:
        setup = await self._first_setup()
        self._apply_debug(setup)
        note_build(self._counters)
        self._workers.count = setup.workers
        self._channel.send({"op": "workers", "count": setup.workers})
        new = await self._views.prepare(setup.views)
        self._setup = setup
        self._workers.begin(self._order(setup), setup.data)
        known = bool(new) and self._views.whole(new)
        if not known:
            self._views.start(new)
        if self._options.beside:
            await _until(lambda: self._views.whole(new), math.inf)
            note_plugins(self._counters, setup)
            self._channel.send({"op": "listed"})
        if not known:
            await self._pages.serve(setup)
        await self._workers.built()
        self._workers.swap()
        await self._synced(setup)
        await self._listen(setup)
        if known:  # what is served comes first where there is nothing to wait for
            self._views.start(new)
            await self._pages.serve(setup)
        if not self._last_good.serves:
            await asyncio.to_thread(self._last_good.keep, setup)
        note_plugins(self._counters, setup)
        if self._options.again:
            note_version(self._counters, setup)
        for line in setup.corefile.warnings:
            log.warning("%s", line.removeprefix("Warning: "))
        if not self._options.quiet and not self._options.again:
            for line in (*setup.zones, f"svcdns-{__version__}"):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
        if "reload" in {name for block in setup.plans for name in block.options}:
            self._reload_log.info("Running configuration SHA512 = %s", setup.corefile.digest)
        self._channel.send({"op": "serving"})

    async def _first_setup(self) -> Setup:
        while True:
            try:
                return await asyncio.to_thread(prepare, self._options.conf, self._options.port)
            except SvcdnsError as error:
                kept = await asyncio.to_thread(self._last_good.instead, error)
                if kept is not None:
                    return kept
                if not self._options.again:
                    raise
                log.error("Corefile: %s; the workers serve what they have", error)
                await asyncio.sleep(RETRY)

    def _order(self, setup: Setup) -> Configure:
        self._generation += 1
        return Configure(self._generation, setup.corefile, setup.hosts, self._views.kinds(setup.views), setup.local_addresses)

    async def _synced(self, setup: Setup) -> None:
        """Waits for the cluster as long as `startup_timeout` says, or until it shows that nobody answers there."""
        if not setup.views:
            return
        began = time.monotonic()
        said = began
        synced = (State.SYNCED, State.SERVING)
        while not all(one in synced for one in self._workers.states()):
            now = time.monotonic()
            if now - began >= setup.startup_timeout or self._views.unreachable():
                self._kubernetes_log.warning("starting server with unsynced Kubernetes API")
                return
            if now - said >= WAITING_LINE:
                said = now
                self._kubernetes_log.info("waiting for Kubernetes API before starting server")
            await asyncio.sleep(POLL)

    async def _listen(self, setup: Setup) -> None:
        self._listening = asyncio.get_running_loop().create_future()
        self._channel.send({"op": "listen", "addresses": setup.listen})
        error = await self._listening
        if error:
            raise StartError(error)

    # -- the supervisor

    def _from_supervisor(self) -> None:
        try:
            messages = self._channel.receive()
        except ChannelClosedError as error:
            if isinstance(error, ChannelBrokenError):
                log.error("ending, as the supervisor's messages cannot be read: %s", error)
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._exit_asked.set()
            return
        for message in messages:
            self._told(message)

    def _told(self, message: Message) -> None:
        match message["op"]:
            case "worker":
                self._workers.joined(message["slot"], message["region"], message["fds"][0])
            case "endings":
                note_endings(self._counters, message["counts"], message["loops"])
            case "listening":
                if self._listening is not None and not self._listening.done():
                    self._listening.set_result("" if message["ok"] else message["error"])
            case "reload":
                self._reload_asked.set()
            case "stop":
                self._stop_asked.set()
            case "exit":
                self._exit_asked.set()

    # -- reload

    async def _follow_corefile(self) -> None:
        """Looks at the Corefile at the interval that `reload` says, and at once where a signal asks."""
        tried = self._serving.corefile.digest
        while True:
            watched = self._serving.options("reload")
            options: Any = watched[-1] if watched else None
            pause = options.interval + random.uniform(-options.jitter / 2, options.jitter / 2) if options else None
            asked = await self._asked_within(pause)
            try:
                corefile = load(self._options.conf, environ=os.environ, default_port=self._options.port)
                if not asked and corefile.digest in (tried, self._serving.corefile.digest):
                    continue
                setup = await asyncio.to_thread(work_out, corefile, self._serving.data)
            except SvcdnsError as error:
                if asked:
                    log.error("SIGUSR1: %s", error)
                else:
                    self._reload_log.warning("Corefile parse failed: %s", error)
                continue
            tried = setup.corefile.digest
            await self._reload(setup, asked=asked)

    async def _asked_within(self, period: float | None) -> bool:
        try:
            await asyncio.wait_for(self._reload_asked.wait(), period)
        except TimeoutError:
            return False
        self._reload_asked.clear()
        return True

    async def _follow_files(self) -> None:
        """Sends what plugins' files hold now, where it has changed, each at the interval that its plugin wants."""
        looked: dict[float, float] = {}
        while True:
            now = time.monotonic()
            looked = {period: looked.get(period, now) for period in periods(self._serving)}
            await asyncio.sleep(min((IDLE, *(last + period - now for period, last in looked.items()))))
            now = time.monotonic()
            due = {period for period, last in looked.items() if last + period <= now}
            looked |= dict.fromkeys(due, now)
            new = refreshed(self._serving, due)
            try:
                self._workers.update(new.data)
            except FrameTooLargeError as error:
                log.error("a plugin's file is not read again: %s", error)
                continue
            self._setup = new

    async def _reload(self, setup: Setup, *, asked: bool) -> None:
        log.info("Reloading")
        before = self._serving
        try:
            new = await self._views.prepare(setup.views)
            await self._take_over(setup, new)
        except SvcdnsError as error:
            self._setup = before
            self._workers.abandon()
            self._workers.update(before.data)
            await self._views.keep(before.views)
            with contextlib.suppress(SvcdnsError):
                await self._pages.serve(before)
            log.error("Restart failed: %s", error)
            if asked:
                log.error("SIGUSR1: %s", error)
            else:
                self._reload_log.error("Corefile changed but reload failed: %s", error)
            self._counters.count(reload.FAILED)
            return
        note_version(self._counters, setup)
        await asyncio.to_thread(self._last_good.keep, setup)
        log.info("Reloading complete")

    async def _take_over(self, setup: Setup, new: list[int]) -> None:
        before = self._serving
        self._workers.update(setup.data)
        order = self._order(setup)
        self._workers.build(order, new)
        self._views.start(new)
        await self._workers.built()
        await self._pages.serve(setup)
        if setup.listen != before.listen:
            await self._listen(setup)
        self._setup = setup
        if new:
            await _until(lambda: self._views.listed(new), setup.startup_timeout)
        self._workers.swap()
        await self._views.keep(setup.views)
        self._apply_debug(setup)
        note_plugins(self._counters, setup)
        if setup.workers != self._workers.count:
            log.warning(
                "multisocket: %d workers from the next start on; a reload keeps the %d there are", setup.workers, self._workers.count
            )

    # -- stopping

    async def _follow_stop(self) -> None:
        await self._stop_asked.wait()
        await self._pages.unready()
        lameduck = self._serving.lameduck
        if lameduck > 0:
            plugin_logger("health").info("Going into lameduck mode for %gs", lameduck)
            self._channel.send({"op": "lame"})
            await asyncio.sleep(lameduck)
        self._channel.send({"op": "stopping-done"})
        await self._exit_asked.wait()

    # -- what is shown

    async def _beat(self) -> None:
        dropped_lines = DroppedLines(self._counters)
        while True:
            self._counters.beat(time.monotonic())
            dropped_lines.fold()
            self._views.show_ages()
            self._views.confirm()
            listening = self._listening is not None and self._listening.done()
            self._memory.look(serving=listening and not self._stop_asked.is_set())
            await asyncio.sleep(BEAT)

    def _ask_for_restart(self) -> None:
        with contextlib.suppress(ChannelClosedError):
            self._channel.send({"op": "restart"})

    @staticmethod
    def _apply_debug(setup: Setup) -> None:
        log.setLevel(logging.DEBUG if setup.options("debug") else logging.INFO)


async def _until(done: Callable[[], bool], patience: float) -> None:
    """Waits for something to be done, if that takes no longer than `patience`, in seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not done():
        await asyncio.sleep(POLL)
