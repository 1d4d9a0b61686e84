"""A server under load with everything that can go wrong around it: dnsperf asks at a fixed rate, a checker holds answers to the truth,
endpoints move all the time, and a fault is made in the midst.

dnsperf asks for names of the cluster alone. Outside names are the checker's: when a fault empties a cache, a high rate of them would
measure the upstream."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import dnsperf, questions
from bench.asking import Asker, holds, packet, write_questions
from bench.buffers import shrink
from bench.checker import Checker, Increment
from bench.checker import questions as checked
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Figures, Load
from bench.processes import children
from bench.servers import Cores, Server, Stage
from bench.truth import Trouble, Truth

MOVING = 200
"""Headless Services whose endpoints move."""
CHANGES = 20
"""Changes a second."""
LINES = 50_000


@dataclass(frozen=True)
class Scale:
    """How much is asked: dnsperf's questions a second over UDP, the checker's over UDP and over `connections` TCP connections."""

    services: int = 10_000
    endpoints: int = 10
    rate: int = 20_000
    checked: int = 500
    tcp: int = 1_000
    connections: int = 500
    ordinary_buffers: bool = False
    """Whether the server's sockets get receive buffers of the kernel's default size."""


@dataclass
class Outcome:
    """What came of one run. `recovered` is how long after the fault, in seconds, a change was answered."""

    load: Figures
    udp: Increment
    tcp: Increment
    drops: float
    recovered: float
    log: list[str]

    @property
    def clean(self) -> bool:
        """Whether nothing was lost and nothing wrong."""
        return not (self.load.lost or self.udp.lost or self.tcp.lost or self.udp.wrong or self.tcp.wrong)


class Scene:
    """One server and its API server. Coroutines run beside the checker; what waits for a process runs in a thread."""

    def __init__(self, server: Server, truth: Truth) -> None:
        self.server, self.truth = server, truth
        self.recovered = 0.0
        self._api = asyncio.Lock()
        self.marked, *self.moving = random.Random(3).sample(server.site.cluster.headless(), MOVING + 1)

    async def api(self, command: str) -> object:
        """A command to the API server."""
        async with self._api:
            return await asyncio.to_thread(self.server.api.ask, command)

    async def change(self, number: int) -> str:
        """Moves an endpoint of a Service; its new address."""
        async with self._api:
            begun = time.monotonic()
            address = str((await asyncio.to_thread(self.server.api.ask, f"change {number}"))[0])
            self.truth.changed(number, address, begun, time.monotonic())
            return address

    async def mend(self) -> None:
        """Ends a fault of the API server, which moves an endpoint in the same step."""
        number = random.choice(self.moving)
        async with self._api:
            begun = time.monotonic()
            address = await asyncio.to_thread(self.server.api.ask, f"mend {number}")
            self.truth.changed(number, address, begun, time.monotonic())

    async def keep_changing(self) -> None:
        """Moves endpoints until cancelled."""
        while True:
            await self.change(random.choice(self.moving))
            await asyncio.sleep(1 / CHANGES)

    @asynccontextmanager
    async def blind(self) -> AsyncIterator[Trouble]:
        """A time in which the server cannot learn what changes. It ends when a change that is made at its end is answered.

        What is `recovered` counts from the moment when all was well around the server, for a fault of its own from its beginning.
        """
        trouble = Trouble(time.monotonic())
        self.truth.troubles.append(trouble)
        yield trouble
        address = await self.change(self.marked)
        question = packet(self.server.site.cluster.fqdn(self.marked))
        with closing(Asker(self.server.port, 0.2)) as asker:
            await self.until("the change", lambda: holds(asker.ask(question), address), 30)
        trouble.until = time.monotonic()
        self.recovered = max(self.recovered, trouble.until - (trouble.well or trouble.since))

    @asynccontextmanager
    async def without_changes(self) -> AsyncIterator[None]:
        """While it lasts the API server is asked for nothing."""
        async with self._api:
            yield

    def processes(self) -> dict[str, int]:
        """Control and workers by name."""
        return children(self.server.process.pid)

    def signal(self, process: str, number: signal.Signals) -> int:
        """Sends a signal to one of the server's processes; its id."""
        pid = self.processes()[process]
        os.kill(pid, number)
        return pid

    async def until(self, what: str, probe: Callable[[], bool], patience: float) -> None:
        """Waits, looking every 20 ms. Raises BrokenError."""
        begun = time.monotonic()
        while not await asyncio.to_thread(probe):
            if time.monotonic() - begun > patience:
                raise BrokenError(f"{self.server.name}: gave up waiting for {what}: {self.server.log()}")
            await asyncio.sleep(0.02)

    async def until_replaced(self, process: str, before: int) -> None:
        """Waits until another process has taken the place of one that died, and the server is ready."""
        await self.until(f"another {process}", lambda: self.processes().get(process, before) != before, 30)
        await self.until("readiness", lambda: self.server.page("ready")[0] == 200, 30)


Fault = Callable[[Scene], Awaitable[None]]
"""Makes a fault and waits until its consequences are over."""


def run(fault: Fault, scale: Scale, cores: Cores, *, seconds: int, name: str = "svcdns", workers: int = 1) -> Outcome:
    """Starts a server, asks it for so many seconds, with a fault in them, and ends it. Raises BrokenError."""
    cluster = Cluster(scale.services, scale.endpoints)
    with Stage(cluster, [name], cores, workers=workers) as stage:
        server = stage.servers[name]
        if scale.ordinary_buffers:
            shrink(server.process.pid)
        return asyncio.run(_run(fault, scale, cores, server, seconds))


async def _run(fault: Fault, scale: Scale, cores: Cores, server: Server, seconds: int) -> Outcome:
    truth = Truth(server.site.cluster)
    scene = Scene(server, truth)
    asked = checked(server.site.cluster, truth, scene.moving, 20_000)
    checker = Checker(server.port, asked, udp_rate=scale.checked, tcp_rate=scale.tcp, connections=scale.connections)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="svcdns-bench-")))
        path = write_questions(folder / "questions", questions.hits(server.site.cluster, LINES).lines)
        changing = asyncio.create_task(scene.keep_changing())
        checking = asyncio.create_task(checker.run())
        load = Load(seconds, scale.rate, 64, 5000)
        loading = asyncio.create_task(asyncio.to_thread(dnsperf.run, load, server.port, path, cores.asker))
        await asyncio.sleep(LEAD)
        await fault(scene)
        if loading.done():
            raise BrokenError(f"{server.name}: the fault took longer than the load of {seconds} s")
        figures = await loading
        changing.cancel()
        checker.stop()
        await checking
    await asyncio.sleep(2.0)  # a scrape may lag by this much
    drops = scene.server.metric("svcdns_socket_dropped_packets_total")
    if server.process.poll() is not None:
        raise BrokenError(f"{server.name} ended: {server.log()}")
    return Outcome(figures, checker.udp, checker.tcp, drops, scene.recovered, server.log().splitlines())


LEAD = 2.0
"""Seconds of undisturbed asking before a fault."""
