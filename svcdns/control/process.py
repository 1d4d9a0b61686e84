"""The control process: Corefile, cluster views, feeds, HTTP pages, reload. It answers no DNS.

Order of a start: the Corefile is checked; workers are started and told their chains and the cluster as it comes in; when all are
synced, or the start-up time is over, the supervisor is asked to listen. A reload goes the same way beside what serves, and either takes
over as a whole or leaves everything as it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from svcdns import __version__
from svcdns.chain.routing import Listener
from svcdns.cluster.changes import Complete
from svcdns.cluster.sources.feed import Changed, Configure, Configured, Data, Fatal, Swap, ToControl
from svcdns.control import metrics
from svcdns.control.feeds import Feed
from svcdns.control.http import Address, HttpPages
from svcdns.control.setup import Setup, periods, prepare, refreshed, work_out
from svcdns.control.store import Key, View
from svcdns.control.views import Views
from svcdns.corefile.load import load
from svcdns.errors import SvcdnsError
from svcdns.plugins import health, reload
from svcdns.telemetry.channel import Channel, ChannelClosedError, Message
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import DroppedLines, plugin_logger
from svcdns.telemetry.shared import State, heartbeat, state

BEAT = 1.0
SILENCE = 3.0
POLL = 0.02
BUILD_PATIENCE = 10.0
"""Seconds that workers may take to build chains."""
WAITING_LINE = 0.5
RETRY = 2.0
IDLE = 10.0
"""Seconds after which a Corefile may have got other files to look at by a reload."""

log = logging.getLogger("svcdns")


class StartError(SvcdnsError):
    """The start, or a reload, cannot be done."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said. `again` means that a control process before this one has served."""

    conf: str | None
    port: int
    quiet: bool
    again: bool = False


class Control:
    """Everything that is not answering DNS."""

    def __init__(self, options: Options, channel: Channel, regions: list[memoryview]) -> None:
        """`regions` of the shared mapping, control's first."""
        self._options, self._channel, self._regions = options, channel, regions
        self._counters = Counters(regions[0])
        self._kubernetes_log = plugin_logger("kubernetes")
        self._reload_log = plugin_logger("reload")
        self._views = Views(self._counters, self._kubernetes_log, self._tell)
        self._feeds: dict[int, Feed] = {}
        self._workers = 1
        self._generation = time.time_ns() // 1_000_000
        self._epoch = self._generation
        self._setup: Setup | None = None
        self._configure: Configure | None = None
        self._live = False
        self._built: dict[int, str] = {}
        self._registry = metrics.registry(regions)
        self._http = HttpPages({"/health": self._health, "/ready": self._ready, "/metrics": self._metrics})
        self._listening: asyncio.Future[str] | None = None
        self._changed = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._exit_asked = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._beaten = False

    async def run(self) -> int:
        """Runs until told to end; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._from_supervisor)
        self._tasks.append(asyncio.create_task(self._beat()))
        ending = asyncio.create_task(self._exit_asked.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait([ending, starting], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._tasks += [
                    asyncio.create_task(step())
                    for step in (self._follow_corefile, self._follow_files, self._check_health, self._follow_stop)
                ]
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
            await self._http.serve({})
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
        self._note_build()
        self._workers = setup.workers
        self._channel.send({"op": "workers", "count": self._workers})
        new = await self._views.prepare(setup.views)
        await self._http.serve(_pages(setup))
        self._setup = setup
        self._configure = self._order(setup)
        for feed in self._feeds.values():
            self._introduce(feed)
        self._views.start(new)
        await self._built_everywhere()
        self._live = True
        self._broadcast(Swap(self._generation))
        await self._synced(setup)
        await self._listen(setup)
        self._note_plugins(setup)
        for line in setup.corefile.warnings:
            log.warning("%s", line.removeprefix("Warning: "))
        if not self._options.quiet and not self._options.again:
            for line in (*setup.zones, f"svcdns-{__version__}"):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
        if "reload" in {name for block in setup.plans for name in block.options}:
            self._reload_log.info("Running configuration SHA512 = %s", setup.corefile.digest)

    async def _first_setup(self) -> Setup:
        while True:
            try:
                return await asyncio.to_thread(prepare, self._options.conf, self._options.port)
            except SvcdnsError as error:
                if not self._options.again:
                    raise
                log.error("Corefile: %s; the workers serve what they have", error)
                await asyncio.sleep(RETRY)

    def _order(self, setup: Setup) -> Configure:
        self._generation += 1
        return Configure(self._generation, setup.corefile, setup.hosts, self._views.kinds(setup.views), setup.local_addresses)

    async def _built_everywhere(self) -> None:
        """Waits until every worker has built the chains of this generation. Raises StartError."""
        deadline = time.monotonic() + BUILD_PATIENCE
        while len(self._feeds) < self._workers or not all(slot in self._built for slot in self._feeds):
            await self._wait_for_change(deadline, "the workers to build their chains")
        errors = [error for error in self._built.values() if error]
        if errors:
            raise StartError(errors[0])

    async def _wait_for_change(self, deadline: float, what: str) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise StartError(f"gave up waiting for {what}") from None

    async def _synced(self, setup: Setup) -> None:
        """Waits for the cluster as long as `startup_timeout` says."""
        if not setup.views:
            return
        began = time.monotonic()
        said = began
        synced = (State.SYNCED, State.SERVING)
        while not all(state(region) in synced for region in self._worker_regions()):
            now = time.monotonic()
            if now - began >= setup.startup_timeout:
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

    def _worker_regions(self) -> list[memoryview]:
        return self._regions[1 : 1 + self._workers]

    # -- the supervisor

    def _from_supervisor(self) -> None:
        try:
            messages = self._channel.receive()
        except ChannelClosedError:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._exit_asked.set()
            return
        for message in messages:
            self._told(message)

    def _told(self, message: Message) -> None:
        match message["op"]:
            case "worker":
                self._new_worker(message["slot"], message["fds"][0])
            case "listening":
                if self._listening is not None and not self._listening.done():
                    self._listening.set_result("" if message["ok"] else message["error"])
            case "reload":
                self._reload_asked.set()
            case "stop":
                self._stop_asked.set()
            case "exit":
                self._exit_asked.set()

    # -- workers

    def _new_worker(self, slot: int, fd: int) -> None:
        old = self._feeds.pop(slot, None)
        if old is not None:
            old.close()
        self._built.pop(slot, None)
        feed = self._feeds[slot] = Feed(slot, socket.socket(fileno=fd), self._views.by_number, self._heard)
        feed.begin(self._epoch)
        if self._configure is not None:
            self._introduce(feed)
        self._changed.set()

    def _introduce(self, feed: Feed) -> None:
        """Tells a worker all: data, chains, the cluster."""
        assert self._configure is not None
        assert self._setup is not None
        for (plugin, key), payload in self._setup.data.items():
            feed.put(Data(plugin, key, payload))
        feed.put(self._configure)
        if self._live:
            feed.put(Swap(self._configure.generation))
        for source in self._configure.sources:
            feed.everything(self._views.by_number[source.number])

    def _broadcast(self, content: Any) -> None:
        for feed in self._feeds.values():
            feed.put(content)

    def _tell(self, view: View, difference: Key | Complete | None) -> None:
        for feed in self._feeds.values():
            if isinstance(difference, Key):
                feed.tell(difference)
            elif isinstance(difference, Complete):
                feed.put(Changed(view.number, difference))
            else:
                feed.serials(view)

    def _heard(self, slot: int, content: ToControl) -> None:
        match content:
            case Configured():
                if content.generation == self._generation:
                    self._built[slot] = content.error
                    self._changed.set()
            case Fatal():
                log.critical("%s", content.message)
                with contextlib.suppress(ChannelClosedError):
                    self._channel.send({"op": "fatal", "code": 1})

    # -- reload

    async def _follow_corefile(self) -> None:
        """Looks at the Corefile at the interval that `reload` says, and at once where a signal asks."""
        tried = self._setup.corefile.digest if self._setup else ""
        while True:
            assert self._setup is not None
            watched = self._setup.options("reload")
            options: Any = watched[-1] if watched else None
            pause = options.interval + random.uniform(-options.jitter / 2, options.jitter / 2) if options else None
            asked = await self._asked_within(pause)
            try:
                corefile = load(self._options.conf, environ=os.environ, default_port=self._options.port)
                if not asked and corefile.digest in (tried, self._setup.corefile.digest):
                    continue
                setup = await asyncio.to_thread(work_out, corefile, self._setup.data)
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
            assert self._setup is not None
            now = time.monotonic()
            looked = {period: looked.get(period, now) for period in periods(self._setup)}
            await asyncio.sleep(min((IDLE, *(last + period - now for period, last in looked.items()))))
            before, now = self._setup, time.monotonic()
            due = {period for period, last in looked.items() if last + period <= now}
            looked |= dict.fromkeys(due, now)
            self._setup = refreshed(before, due)
            for (plugin, key), payload in self._setup.data.items():
                if before.data.get((plugin, key)) != payload:
                    self._broadcast(Data(plugin, key, payload))

    async def _reload(self, setup: Setup, *, asked: bool) -> None:
        log.info("Reloading")
        before, order_before = self._setup, self._configure
        assert before is not None
        try:
            new = await self._views.prepare(setup.views)
            await self._take_over(setup, new)
        except SvcdnsError as error:
            self._setup, self._configure = before, order_before
            await self._views.keep(before.views)
            with contextlib.suppress(SvcdnsError):
                await self._http.serve(_pages(before))
            log.error("Restart failed: %s", error)
            if asked:
                log.error("SIGUSR1: %s", error)
            else:
                self._reload_log.error("Corefile changed but reload failed: %s", error)
            self._counters.count(reload.FAILED)
            return
        self._note_version(setup)
        log.info("Reloading complete")

    async def _take_over(self, setup: Setup, new: list[int]) -> None:
        assert self._setup is not None
        before = self._setup
        for (plugin, key), payload in setup.data.items():
            self._broadcast(Data(plugin, key, payload))
        order = self._order(setup)
        self._built.clear()
        self._broadcast(order)
        for number in new:
            for feed in self._feeds.values():
                feed.everything(self._views.by_number[number])
        self._views.start(new)
        await self._built_everywhere()
        await self._http.serve(_pages(setup))
        if setup.listen != before.listen:
            await self._listen(setup)
        self._setup, self._configure = setup, order
        if new:
            await self._lists_complete(new, setup.startup_timeout)
        self._broadcast(Swap(order.generation))
        await self._views.keep(setup.views)
        self._apply_debug(setup)
        self._note_plugins(setup)
        if setup.workers != self._workers:
            log.warning("multisocket: %d workers from the next start on; a reload keeps the %d there are", setup.workers, self._workers)

    async def _lists_complete(self, numbers: list[int], patience: float) -> None:
        """A new view is listed before it serves, as long as the start-up time allows."""
        deadline = time.monotonic() + patience
        views = [self._views.by_number[number] for number in numbers]
        while time.monotonic() < deadline and not all(view.completed.issuperset(view.kinds) for view in views):
            await asyncio.sleep(POLL)

    # -- stopping

    async def _follow_stop(self) -> None:
        await self._stop_asked.wait()
        assert self._setup is not None
        await self._http.without("/ready")
        await self._views.stop()
        if self._setup.lameduck > 0:
            plugin_logger("health").info("Going into lameduck mode for %gs", self._setup.lameduck)
            await asyncio.sleep(self._setup.lameduck)
        self._channel.send({"op": "stopping-done"})
        await self._exit_asked.wait()

    # -- pages

    async def _health(self, _request: web.Request) -> web.Response:
        now = time.monotonic()
        beats = [heartbeat(region) for region in self._worker_regions()]
        self._beaten = self._beaten or any(beats)
        if self._beaten and not any(now - beat <= SILENCE for beat in beats):
            return web.Response(status=503, text="no worker answers")
        return web.Response(text="OK")

    async def _ready(self, _request: web.Request) -> web.Response:
        states = [state(region) for region in self._worker_regions()]
        if all(one == State.SERVING for one in states):
            return web.Response(text="OK")
        unsynced = any(one in (State.UNSYNCED, State.SERVING_UNSYNCED, State.STARTING) for one in states)
        names = "kubernetes" if unsynced and self._setup is not None and self._setup.views else "worker"
        log.info('Plugins not ready: "%s"', names)
        return web.Response(status=503, text=names)

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = metrics.page(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _check_health(self) -> None:
        """Asks our own /health once a second, as a probe would (spec C-health)."""
        timeout = aiohttp.ClientTimeout(total=3)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            while True:
                await asyncio.sleep(1.0)
                for options in self._setup.options("health") if self._setup else ():
                    await self._check_once(session, options.address)

    async def _check_once(self, session: aiohttp.ClientSession, address: Address) -> None:
        host, port = address
        shown = f"[{host}]" if ":" in host else host or "127.0.0.1"
        began = time.monotonic()
        try:
            async with session.get(f"http://{shown}:{port}/health") as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._counters.count(health.FAILURES)
            plugin_logger("health").warning("Local health request failed: %s", error)
            return
        took = time.monotonic() - began
        self._counters.observe(health.DURATION, self._counters.cell(health.DURATION), took)
        if took > 1.0:
            plugin_logger("health").warning("Local health request took more than 1s: %.3fs", took)

    # -- what is shown

    async def _beat(self) -> None:
        dropped_lines = DroppedLines(self._counters)
        while True:
            self._counters.beat(time.monotonic())
            dropped_lines.fold()
            await asyncio.sleep(BEAT)

    def _note_build(self) -> None:
        self._counters.set(self._counters.cell(metrics.BUILD_INFO, *metrics.build_labels()), 1)
        self._counters.cell(health.FAILURES)
        self._counters.cell(reload.FAILED)

    def _note_plugins(self, setup: Setup) -> None:
        self._counters.clear(metrics.PLUGIN_ENABLED)
        for block, hosts in zip(setup.plans, setup.hosts, strict=True):
            for key in block.keys:
                for host in hosts:
                    server = Listener(host, key.port).server
                    for name in block.options:
                        self._counters.set(self._counters.cell(metrics.PLUGIN_ENABLED, server, key.zone, "", name), 1)

    def _note_version(self, setup: Setup) -> None:
        self._counters.clear(reload.VERSION)
        self._counters.set(self._counters.cell(reload.VERSION, "sha512", setup.corefile.digest), 1)

    @staticmethod
    def _apply_debug(setup: Setup) -> None:
        log.setLevel(logging.DEBUG if setup.options("debug") else logging.INFO)


def _pages(setup: Setup) -> dict[Address, frozenset[str]]:
    out: dict[Address, set[str]] = {}
    for name, path in (("health", "/health"), ("ready", "/ready"), ("prometheus", "/metrics")):
        for options in setup.options(name):
            out.setdefault(options.address, set()).add(path)
    return {address: frozenset(paths) for address, paths in out.items()}
