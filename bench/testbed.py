"""Runs one server under load and makes a fault, while endpoints change and a checker checks responses.

dnsperf queries names of the cluster at a fixed rate. The checker also queries external names, at a low rate.
"""

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

from bench import dnsperf, queries
from bench.buffers import shrink
from bench.checker import Checker, TransportCounts
from bench.checker import queries as checker_queries
from bench.client import Client, has_address, make_query, write_queries
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Figures, Load
from bench.endpoint_history import EndpointHistory, Outage
from bench.processes import children
from bench.servers import Cores, Server, ServerGroup

MOVING = 200
"""Headless Services whose endpoints change."""
CHANGES = 20
"""Changes a second."""
LINES = 50_000


@dataclass(frozen=True)
class Scale:
    """The size of the cluster, and the load in queries a second.

    dnsperf sends `rate` queries. The checker sends `checked` queries over UDP, and `tcp` queries over `connections` TCP
    connections.
    """

    services: int = 10_000
    endpoints: int = 10
    rate: int = 20_000
    checked: int = 500
    tcp: int = 1_000
    connections: int = 500
    ordinary_buffers: bool = False
    """True if the server's sockets get receive buffers of the kernel's default size."""


@dataclass
class Outcome:
    """The result of one run.

    `recovery_time` is the number of seconds from the end of a fault until a response has a later endpoint change.
    `drops` is the number of packets that the kernel dropped.
    """

    load: Figures
    udp: TransportCounts
    tcp: TransportCounts
    drops: float
    recovery_time: float
    log: list[str]

    @property
    def clean(self) -> bool:
        """Returns True if no query was lost and no response was wrong."""
        return not (self.load.lost or self.udp.lost or self.tcp.lost or self.udp.wrong or self.tcp.wrong)


class Testbed:
    """One server and its API server, for a fault. A fault is a coroutine that calls the methods of this class.

    The methods run blocking calls in threads, so that the load continues.
    """

    def __init__(self, server: Server, history: EndpointHistory) -> None:
        self.server, self.history = server, history
        self.recovery_time = 0.0
        self._api = asyncio.Lock()
        self.probe_service, *self.moving = random.Random(3).sample(server.config.cluster.headless(), MOVING + 1)

    async def api(self, command: str) -> object:
        """Sends a command to the API server, and returns its reply."""
        async with self._api:
            return await asyncio.to_thread(self.server.api.request, command)

    async def change(self, number: int) -> str:
        """Changes an endpoint of a Service, records the change for the checker, and returns the new address."""
        async with self._api:
            begun = time.monotonic()
            address = str((await asyncio.to_thread(self.server.api.request, f"change {number}"))[0])
            self.history.changed(number, address, begun, time.monotonic())
            return address

    async def end_api_fault(self) -> None:
        """Ends a fault of the API server and changes an endpoint, in a single command (`repair`)."""
        number = random.choice(self.moving)
        async with self._api:
            begun = time.monotonic()
            address = await asyncio.to_thread(self.server.api.request, f"repair {number}")
            self.history.changed(number, address, begun, time.monotonic())

    async def change_continuously(self) -> None:
        """Changes endpoints, CHANGES times a second, until the task is cancelled."""
        while True:
            await self.change(random.choice(self.moving))
            await asyncio.sleep(1 / CHANGES)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[Outage]:
        """Context manager for a fault during which the server cannot receive changes.

        At the end, changes an endpoint, waits until a response has the new address, and sets `recovery_time`. This is
        the number of seconds since `Outage.restored`, or since the beginning of the outage if `restored` is not set.
        """
        outage = Outage(time.monotonic())
        self.history.outages.append(outage)
        yield outage
        address = await self.change(self.probe_service)
        query = make_query(self.server.config.cluster.fqdn(self.probe_service))
        with closing(Client(self.server.port, 0.2)) as client:
            await self.until("the change", lambda: has_address(client.query(query), address), 30)
        outage.until = time.monotonic()
        self.recovery_time = max(self.recovery_time, outage.until - (outage.restored or outage.since))

    @asynccontextmanager
    async def without_changes(self) -> AsyncIterator[None]:
        """Context manager that blocks all commands to the API server, so that endpoints do not change."""
        async with self._api:
            yield

    def processes(self) -> dict[str, int]:
        """Returns the process ids of the control process and the workers, by name such as `worker 0`."""
        return children(self.server.process.pid)

    def signal(self, process: str, number: signal.Signals) -> int:
        """Sends a signal to one of the server's processes, and returns the id of this process."""
        pid = self.processes()[process]
        os.kill(pid, number)
        return pid

    async def until(self, what: str, probe: Callable[[], bool], timeout: float) -> None:
        """Calls `probe` every 20 ms until it returns True. Raises BrokenError after `timeout` seconds."""
        begun = time.monotonic()
        while not await asyncio.to_thread(probe):
            if time.monotonic() - begun > timeout:
                raise BrokenError(f"{self.server.name}: timed out waiting for {what}: {self.server.log()}")
            await asyncio.sleep(0.02)

    async def until_replaced(self, process: str, before: int) -> None:
        """Waits until the process with this name has another id than `before`, and the server is ready."""
        await self.until(f"another {process}", lambda: self.processes().get(process, before) != before, 30)
        await self.until("readiness", lambda: self.server.page("ready")[0] == 200, 30)


Fault = Callable[[Testbed], Awaitable[None]]
"""Makes a fault and waits until the server has recovered."""


def run(fault: Fault, scale: Scale, cores: Cores, *, seconds: int, name: str = "svcdns", workers: int = 1) -> Outcome:
    """Starts a server, runs `fault` during `seconds` of load, and stops the server.

    Raises BrokenError if the server exits or does not recover in time, or if the fault takes longer than the load.
    """
    cluster = Cluster(scale.services, scale.endpoints)
    with ServerGroup(cluster, [name], cores, workers=workers) as server_group:
        server = server_group.servers[name]
        if scale.ordinary_buffers:
            shrink(server.process.pid)
        return asyncio.run(_run(fault, scale, cores, server, seconds))


async def _run(fault: Fault, scale: Scale, cores: Cores, server: Server, seconds: int) -> Outcome:
    history = EndpointHistory(server.config.cluster)
    testbed = Testbed(server, history)
    to_check = checker_queries(server.config.cluster, history, testbed.moving, 20_000)
    checker = Checker(server.port, to_check, udp_rate=scale.checked, tcp_rate=scale.tcp, connections=scale.connections)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="svcdns-bench-")))
        path = write_queries(folder / "queries", queries.hits(server.config.cluster, LINES).lines)
        changing = asyncio.create_task(testbed.change_continuously())
        checking = asyncio.create_task(checker.run())
        load = Load(seconds, scale.rate, 64, 5000)
        loading = asyncio.create_task(asyncio.to_thread(dnsperf.run, load, server.port, path, cores.client))
        await asyncio.sleep(LEAD)
        await fault(testbed)
        if loading.done():
            raise BrokenError(f"{server.name}: the fault took longer than the load of {seconds} s")
        figures = await loading
        changing.cancel()
        checker.stop()
        await checking
    await asyncio.sleep(2.0)  # a scrape may lag by this much
    drops = testbed.server.metric("svcdns_socket_dropped_packets_total")
    if server.process.poll() is not None:
        raise BrokenError(f"{server.name} exited: {server.log()}")
    return Outcome(figures, checker.udp, checker.tcp, drops, testbed.recovery_time, server.log().splitlines())


LEAD = 2.0
"""Seconds of load before the fault."""
