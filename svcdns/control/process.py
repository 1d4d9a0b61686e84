"""The control process: loads the Corefile, starts and reloads the workers' configuration, and takes part in a stop.

A start has one of four sequences (docs/architecture.md#processes):

- From a list: the DNS ports are opened when all workers are synced, or after the startup timeout.
- Without a cluster: the ports are opened before the workers have built their plugin chains.
- From a snapshot: the ports are opened before the first request to the API server.
- As a successor of an earlier control process: the workers answer throughout.

Rules:

1. Nothing in the event loop waits for a file.
2. Only one task at a time replaces the active setup (`_changing`).
3. A reload builds the new chains while the old ones serve. The new Corefile is used as a whole or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from svcdns import __version__
from svcdns.control.cluster_view import ClusterView, Difference
from svcdns.control.cluster_views import ClusterViews, shown_ages
from svcdns.control.configuration import Setup
from svcdns.control.endpoints import Pages
from svcdns.control.http_message import Request, Response
from svcdns.control.info_metrics import RELOADS_FAILED, note_build, note_exits, note_plugins, note_version
from svcdns.control.last_good_corefile import LastGoodCorefile
from svcdns.control.memory_pressure import MemoryBudget, own_memory
from svcdns.control.page_sockets import PageSockets, close_all, listen_all
from svcdns.control.plugin_data import DataKey, Refresher, plugin_files
from svcdns.control.priority import Priority
from svcdns.control.reload_log import ReloadLog
from svcdns.control.setups import Options, Setups
from svcdns.control.traffic_samples import TrafficSamples
from svcdns.control.workers import Workers
from svcdns.corefile.arguments import split_warning
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.load import CorefileMissingError
from svcdns.errors import SvcdnsError
from svcdns.feed.format import handover_format
from svcdns.feed.frames import Configure
from svcdns.log_line import LogLine
from svcdns.plugin_api.errors import HookError
from svcdns.plugin_api.hooks import PANICS
from svcdns.process.blocking_io import BlockingCalls
from svcdns.process.channel import Channel, ChannelBrokenError, ChannelClosedError, Message
from svcdns.process.framing import FrameTooLargeError
from svcdns.process.shared_memory import State, other_side
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import DroppedLines, plugin_logger

if TYPE_CHECKING:
    from svcdns.control.tool_pages import ToolPages

HEARTBEAT: Final = 1.0
"""Seconds from one heartbeat to the next."""
POLL: Final = 0.02
"""Seconds between two checks of the workers' states or of the views, while control waits for them."""
WAITING_LINE: Final = 0.5
"""Seconds between two log lines about the wait for the API server."""
PAGES_DELAY: Final = 0.3
"""Seconds for which requests to the HTTP pages wait for the start of DNS, so that a probe finds the server ready."""

log = logging.getLogger("svcdns")


class StartError(SvcdnsError):
    """Raised if a start or a reload fails because the supervisor cannot open the DNS ports."""


class _Step(Enum):
    """The steps of a reload. The log line and the metric of a failed reload have the step that failed."""

    READ = auto()
    PARSE = auto()
    USE = auto()
    """The check of the directives and options, or reading the files of plugins."""
    SERVE = auto()
    """The line `Reloading` has been logged, and the workers have got the new Corefile."""


class Control:
    """The tasks and the state of the control process (see the module's docstring)."""

    def __init__(
        self,
        options: Options,
        channel: Channel,
        regions: list[memoryview],
        own: int,
        priority: Priority,
        rings: Callable[[], list[memoryview]] = list,
    ) -> None:
        """`regions` are all regions of the shared memory. `own` is the number of this process's region.

        `rings` returns the workers' samples of queries in the shared memory.
        """
        self._lower_priority = priority.lower
        self._options, self._channel = options, channel
        # The view ages of the earlier process are read before `Counters` is made: that sets the gauges of its region
        # to 0.
        ages = shown_ages(regions[other_side(own) if options.beside else own]) if options.again else {}
        self._counters = Counters(regions[own])
        self._kubernetes_log = plugin_logger("kubernetes")
        self._reload_log = plugin_logger("reload")
        self._generation = time.time_ns() // 1_000_000
        self._views = ClusterViews(
            self._counters,
            self._kubernetes_log,
            self._send_difference,
            again=options.again,
            ages=ages,
            flush=self._flush,
            worked=priority.worked,
        )
        self._traffic = TrafficSamples(self._counters, self._views, rings)
        self._workers = Workers(self._views.by_number, regions, self._generation)
        self._memory = MemoryBudget(
            self._counters, time.monotonic, self._workers.allow, self._request_restart, own_memory, again=options.again
        )
        self._reloads = ReloadLog()
        self._regions, self._own = regions, own
        self._tool_pages: ToolPages | None = None
        self._pages = Pages(
            self._workers, self._counters, regions, own, self._is_watching, self._views.unready, self._tool_page
        )
        self._setup: Setup | None = None
        self._calls = BlockingCalls(log)
        self._refresher = Refresher(self._calls, lambda: self._serving.data, self._take_data, self._count_failure)
        self._last_good = LastGoodCorefile(options.state, self._counters, self._calls)
        self._setups = Setups(options, self._calls, self._last_good)
        self._changing = asyncio.Lock()
        """Held during a reload, and while changed data of plugins is put to use."""
        self._page_sockets: PageSockets = {}
        """Sockets of HTTP pages that listen already, but whose pages are not served yet."""
        self._listening: asyncio.Future[str] | None = None
        self._reload_requested = asyncio.Event()
        self._stop_requested = asyncio.Event()
        self._exit_requested = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._commands: asyncio.Task[None] | None = None
        """The commands of the latest event (plugin *on*)."""

    def _send_difference(self, view: ClusterView, difference: Difference) -> None:
        self._workers.send_difference(view, difference)
        if self._traffic.reads_views:
            self._traffic.changed(view, difference)

    def _flush(self) -> None:
        self._workers.flush()

    def _is_watching(self) -> bool:
        return self._setup is not None and bool(self._setup.views)

    def _tool_page(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Makes a page of the plugins *admin* and *status*."""
        if self._tool_pages is None:
            from svcdns.control.status import ServerParts  # here, because a plain server does not need them
            from svcdns.control.tool_pages import ToolPages

            parts = ServerParts(
                lambda: self._serving,
                self._workers,
                self._views,
                self._regions,
                self._own,
                self._reloads,
                self._traffic,
            )
            self._tool_pages = ToolPages(parts)
        return self._tool_pages.page(request)

    @property
    def _serving(self) -> Setup:
        assert self._setup is not None
        return self._setup

    async def run(self) -> int:
        """Runs until the supervisor requests the exit, and returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._from_supervisor)
        self._channel.send({"op": "format", "format": handover_format()})
        self._tasks.append(asyncio.create_task(self._send_heartbeats()))
        exiting = asyncio.create_task(self._exit_requested.wait())
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop_requested.wait())
        try:
            await asyncio.wait([exiting, starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() and not starting.done():  # a start may wait for a usable Corefile without an end
                self._channel.send({"op": "stopping-done"})
                await exiting
            elif starting.done():
                starting.result()
                self._refresher.follow(plugin_files(self._serving.plans))
                steps = (self._follow_corefile(), self._pages.check(lambda: self._serving), self._follow_stop())
                self._tasks += map(asyncio.create_task, steps)
                done, _ = await asyncio.wait([exiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except SvcdnsError as error:
            return self._give_up(str(error))
        finally:
            for task in (*self._tasks, starting, stopping, exiting):
                task.cancel()
            await asyncio.gather(*self._tasks, starting, return_exceptions=True)
            await self._refresher.stop()
            await self._last_good.stop()
            await self._traffic.stop()
            await self._views.stop()
            close_all(self._page_sockets)
            await self._pages.close()
        return 0

    def _give_up(self, line: str) -> int:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
        with contextlib.suppress(ChannelClosedError):
            self._channel.send({"op": "fatal", "code": 1})
        return 1

    # -- starting

    async def _start(self) -> None:
        if self._options.again:
            self._lower_priority()
        setup = await self._setups.first()
        self._apply_debug(setup)
        note_build(self._counters)
        self._workers.count = setup.workers
        self._start_workers(setup)
        new = await self._views.prepare(setup.views)
        self._setup = setup
        self._workers.begin(self._configure(setup), setup.data)
        await self._traffic.use(setup)
        if not self._options.again:
            self._page_sockets = await listen_all((page.address for page in setup.pages), setup.optional_pages)
        if self._options.again:
            await self._start_as_successor(setup, new)
        elif not setup.views:
            await self._start_alone(setup)
        elif new and self._views.whole(new):
            await self._start_from_snapshot(setup, new)
        else:
            await self._start_from_list(setup, new)
        await self._started(setup)

    async def _start_from_list(self, setup: Setup, new: list[int]) -> None:
        self._lower_priority()
        self._views.start(new)
        serving = asyncio.create_task(self._serve_dns(setup))
        try:
            await asyncio.wait([serving], timeout=PAGES_DELAY)
            await self._pages.serve(setup, self._page_sockets)
            await serving
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _start_alone(self, setup: Setup) -> None:
        await self._listen(setup)
        await self._workers.built()
        self._workers.swap()
        self._lower_priority()
        await self._pages.serve(setup, self._page_sockets)

    async def _start_from_snapshot(self, setup: Setup, new: list[int]) -> None:
        await self._serve_dns(setup)
        self._lower_priority()
        self._views.start(new)
        await self._pages.serve(setup, self._page_sockets)

    async def _start_as_successor(self, setup: Setup, new: list[int]) -> None:
        self._views.start(new)
        if self._options.beside:
            await _until(lambda: self._views.whole(new), math.inf)
            note_plugins(self._counters, setup)
            self._channel.send({"op": "listed"})
        await self._pages.serve(setup, self._page_sockets)
        await self._serve_dns(setup)
        note_version(self._counters, setup)

    async def _serve_dns(self, setup: Setup) -> None:
        await self._workers.built()
        self._workers.swap()
        await self._synced(setup)
        await self._listen(setup)

    async def _started(self, setup: Setup) -> None:
        self._reloads.loaded()
        if not self._last_good.serves:
            await self._last_good.save(setup.written)
        note_plugins(self._counters, setup)
        self._log_warnings(setup)
        if not self._options.quiet and not self._options.again:
            for line in (*setup.zones, f"svcdns-{__version__}"):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
        if setup.reload is not None:
            self._reload_log.info("Running configuration SHA512 = %s", setup.corefile.digest)
        self._channel.send({"op": "serving"})
        if setup.commands and not self._options.again:
            self._event("startup")

    def _start_workers(self, setup: Setup) -> None:
        self._workers.encrypted = self._workers.encrypted or bool(setup.encrypted_listen)
        message = {"op": "workers", "count": self._workers.count, "encrypted": self._workers.encrypted}
        self._channel.send(message)

    def _configure(self, setup: Setup) -> Configure:
        self._generation += 1
        return Configure(
            self._generation, setup.corefile, setup.hosts, self._views.kinds(setup.views), setup.local_addresses
        )

    async def _synced(self, setup: Setup) -> None:
        """Waits until all workers have the whole cluster.

        Stops waiting after the startup timeout, or if an API server does not respond. Then it logs a warning.
        """
        if not setup.views:
            return
        began = time.monotonic()
        logged = began
        synced = (State.SYNCED, State.SERVING)
        while not all(one in synced for one in self._workers.states()):
            now = time.monotonic()
            if now - began >= setup.startup_timeout or self._views.unreachable():
                self._kubernetes_log.warning("starting server with unsynced Kubernetes API")
                return
            if now - logged >= WAITING_LINE:
                logged = now
                self._kubernetes_log.info("waiting for Kubernetes API before starting server")
            await asyncio.sleep(POLL)

    async def _listen(self, setup: Setup) -> None:
        self._listening = asyncio.get_running_loop().create_future()
        self._channel.send({"op": "listen", "addresses": setup.listen, "encrypted": setup.encrypted_listen})
        error = await self._listening
        if error:
            raise StartError(error)

    # -- the supervisor

    def _from_supervisor(self) -> None:
        try:
            messages = self._channel.receive()
        except ChannelClosedError as error:
            if isinstance(error, ChannelBrokenError):
                log.error(LogLine("ending, as the supervisor's messages cannot be read", error=error))
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._exit_requested.set()
            return
        for message in messages:
            self._obey(message)

    def _obey(self, message: Message) -> None:
        match message["op"]:
            case "worker":
                self._workers.joined(message["slot"], message["region"], message["fds"][0])
            case "endings":
                note_exits(self._counters, message["counts"], message["loops"])
            case "listening":
                if self._listening is not None and not self._listening.done():
                    self._listening.set_result("" if message["ok"] else message["error"])
            case "reload":
                self._reload_requested.set()
            case "stop":
                self._stop_requested.set()
            case "exit":
                self._exit_requested.set()

    # -- reload

    async def _follow_corefile(self) -> None:
        """Reads the Corefile at the interval of `reload`, and after SIGUSR1. Reloads if the Corefile has changed."""
        tried = self._serving.corefile.digest
        failed: tuple[str, str] | None = None
        while True:
            every = self._serving.reload
            pause = every.interval + random.uniform(-every.jitter / 2, every.jitter / 2) if every is not None else None
            requested = await self._requested_within(pause)
            content, step = "", _Step.READ
            try:
                corefile = await self._setups.load_again(self._serving.corefile)
                content, step = corefile.digest, _Step.USE
                if not requested and corefile.digest in (tried, self._serving.corefile.digest):
                    if corefile.digest == self._serving.corefile.digest:
                        tried, failed = corefile.digest, None
                    continue
                setup = await self._setups.prepare(corefile, self._serving.data, requested=requested)
            except SvcdnsError as error:
                self._count_failure(error)
                if isinstance(error, CorefileError) and step is _Step.READ:
                    content, step = error.content, _Step.PARSE
                failure = content, str(error)
                self._reload_failed(error, step, requested=requested, again=failure == failed)
                failed = failure
                continue
            failure = content, ""
            tried = setup.corefile.digest
            await self._reload(setup, requested=requested, again=failure == failed)
            failed = failure if self._serving.corefile.digest != tried else None

    def _reload_failed(self, error: SvcdnsError, step: _Step, *, requested: bool, again: bool) -> None:
        """Logs and counts a failed reload, with CoreDNS's log lines.

        If `again` is true, the previous reload failed with the same Corefile and error. The failure is then not
        counted, and logged only if SIGUSR1 requested the reload (`requested`).
        """
        if not again:
            self._counters.count(RELOADS_FAILED)
        self._reloads.failed(str(error))
        if again and not requested:
            return
        if step is _Step.PARSE and not requested:
            self._reload_log.warning("Corefile parse failed: %s", error)
        elif step is not _Step.READ:
            if step is not _Step.SERVE:
                log.info("Reloading")
            log.warning("Restart failed: %s", error)
        if not requested:
            self._reload_log.error("Corefile changed but reload failed: %s", error)
        elif isinstance(error, CorefileMissingError):
            log.error("SIGUSR1: loading updated Caddyfile: %s", error.reason)
        else:
            log.error("SIGUSR1: %s", error)

    async def _requested_within(self, period: float | None) -> bool:
        try:
            await asyncio.wait_for(self._reload_requested.wait(), period)
        except TimeoutError:
            return False
        self._reload_requested.clear()
        return True

    def _count_failure(self, error: SvcdnsError) -> None:
        if isinstance(error, HookError):
            self._counters.count(PANICS)

    async def _take_data(self, fresh: dict[DataKey, bytes]) -> None:
        """Stores changed data of plugins in the active setup, and sends them to the workers."""
        async with self._changing:
            setup = replace(self._serving, data={**self._serving.data, **fresh})
            try:
                self._workers.update(setup.data)
            except FrameTooLargeError as error:
                log.error(LogLine("changed files of a plugin are not used", error=error))
            else:
                self._setup = setup

    async def _reload(self, setup: Setup, *, requested: bool, again: bool) -> None:
        async with self._changing:
            await self._reload_alone(setup, requested=requested, again=again)

    async def _reload_alone(self, setup: Setup, *, requested: bool, again: bool) -> None:
        log.info("Reloading")
        before = self._serving
        try:
            new = await self._views.prepare(setup.views)
            await self._take_over(setup, new)
        except SvcdnsError as error:
            self._setup = before
            self._workers.abandon()
            self._workers.update(before.data)
            await self._views.keep_only(before.views)
            with contextlib.suppress(SvcdnsError):
                await self._pages.serve(before)
            self._reload_failed(error, _Step.SERVE, requested=requested, again=again)
            return
        self._refresher.follow(plugin_files(setup.plans))
        note_version(self._counters, setup)
        await self._last_good.save(setup.written)
        self._log_warnings(setup)
        if setup.reload is not None:
            self._reload_log.info("Running configuration SHA512 = %s", setup.corefile.digest)
        self._reloads.loaded()
        log.info("Reloading complete")
        self._event("startup")

    async def _take_over(self, setup: Setup, new: list[int]) -> None:
        before = self._serving
        self._workers.update(setup.data)
        self._workers.build(self._configure(setup), new)
        if setup.encrypted_listen:
            self._start_workers(setup)
        self._views.start(new)
        await self._workers.built()
        await self._pages.serve(setup, self._page_sockets, warns=True)
        if (setup.listen, setup.encrypted_listen) != (before.listen, before.encrypted_listen):
            await self._listen(setup)
        self._setup = setup
        if new:
            await _until(lambda: self._views.listed(new), setup.startup_timeout)
        self._workers.swap()
        if self._workers.encrypted and not setup.encrypted_listen:
            self._workers.encrypted = False
            self._channel.send({"op": "no-encrypted"})
        await self._views.keep_only(setup.views)
        await self._traffic.use(setup)
        self._apply_debug(setup)
        note_plugins(self._counters, setup)
        if setup.workers != self._workers.count:
            log.warning(
                LogLine(
                    "multisocket: a reload does not change the number of workers",
                    workers=self._workers.count,
                    workers_of_next_start=setup.workers,
                )
            )

    def _event(self, event: str) -> asyncio.Task[None] | None:
        """Starts the commands that the Corefile has for `event`, when those of earlier events have ended.

        Returns None if there are no commands for the event.

        The module that runs them is imported only if there are commands.
        """
        commands, before = self._serving.commands, self._commands
        if not commands:
            return None
        from svcdns.control.event_commands import run_commands

        async def run() -> None:
            if before is not None:
                await before
            await run_commands(commands, event, log)

        self._commands = asyncio.create_task(run())
        return self._commands

    # -- stopping

    async def _follow_stop(self) -> None:
        await self._stop_requested.wait()
        commands = self._event("shutdown")
        if commands is not None:
            await commands
        await self._pages.unready()
        lameduck = self._serving.lameduck
        if lameduck > 0:
            plugin_logger("health").info("Going into lameduck mode for %gs", lameduck)
            self._channel.send({"op": "lame"})
            await asyncio.sleep(lameduck / 2)  # by now, new connections of clients go to other replicas
            self._channel.send({"op": "lame", "close": True})
            await asyncio.sleep(lameduck / 2)
        self._channel.send({"op": "stopping-done"})
        await self._exit_requested.wait()

    # -- once a second

    async def _send_heartbeats(self) -> None:
        dropped_lines = DroppedLines(self._counters)
        while True:
            self._counters.heartbeat(time.monotonic())
            dropped_lines.flush()
            self._views.show_ages()
            self._views.confirm()
            self._traffic.count()
            listening = self._listening is not None and self._listening.done()
            self._memory.check(serving=listening and not self._stop_requested.is_set())
            await asyncio.sleep(HEARTBEAT)

    def _request_restart(self) -> None:
        with contextlib.suppress(ChannelClosedError):
            self._channel.send({"op": "restart"})

    @staticmethod
    def _log_warnings(setup: Setup) -> None:
        for line in setup.warnings:
            found, text = split_warning(line)
            if found is None:
                log.warning(line)
            else:
                place = f"{found.file}:{found.line}:{found.column}"
                log.warning(LogLine("a warning about the Corefile", position=place, warning=text))

    @staticmethod
    def _apply_debug(setup: Setup) -> None:
        log.setLevel(logging.DEBUG if setup.debug else logging.INFO)


async def _until(done: Callable[[], bool], timeout: float) -> None:
    """Waits until `done()` returns True, at most `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not done():
        await asyncio.sleep(POLL)
