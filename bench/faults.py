"""The faults that a server has to survive with nothing lost, each made on a running server; a fault is over when all is well again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from functools import partial

from bench.scene import Fault, Scene

OUTAGE = 60.0
"""Seconds that the API server is away."""


@dataclass(frozen=True)
class Case:
    """A fault, how long the load lasts (seconds), the workers that it needs, and what may be lost at most."""

    what: str
    fault: Fault
    seconds: int = 15
    workers: int = 1
    datagrams: int = 0
    connections: int = 0
    """TCP connections that may end, with what is asked on them meanwhile."""
    any_server: bool = False
    """Whether a server of one process can have it too."""


async def nothing(_scene: Scene) -> None:
    """The control run."""


async def five_reloads(scene: Scene) -> None:
    """Another TTL each time, so that every chain is another."""
    path = scene.server.corefile
    text = path.read_text()
    before = _reloads(scene)
    for number in range(5):
        path.write_text(text.replace("ttl 30", f"ttl {29 - number}"))
        scene.server.reload()
        await scene.until("the reload", partial(_reloaded, scene, before + number + 1), 30)
        await asyncio.sleep(0.5)


def _reloaded(scene: Scene, times: int) -> bool:
    return _reloads(scene) >= times


def _reloads(scene: Scene) -> int:
    return scene.server.whole_log().count("Reloading complete")


def killed(process: str, number: signal.Signals = signal.SIGKILL) -> Fault:
    """One of the processes gets a signal and has to be replaced."""

    async def fault(scene: Scene) -> None:
        async with scene.blind():
            before = scene.signal(process, number)
            await scene.until_replaced(process, before)

    return fault


async def api_outage(scene: Scene, seconds: float = OUTAGE) -> None:
    """The API server stands still: connections stay open and nothing comes."""
    pid = scene.server.api.process.pid
    async with scene.blind() as trouble:
        async with scene.without_changes():
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        trouble.well = time.monotonic()


async def relist(scene: Scene) -> None:
    """Compaction: every watch ends with 410, and all is listed anew."""
    async with scene.blind():
        await scene.api("relist")


def api_fault(kind: str, seconds: float = 5.0) -> Fault:
    """The API server has a fault of `bench.api` for some seconds, while endpoints go on moving."""

    async def fault(scene: Scene) -> None:
        async with scene.blind() as trouble:
            await scene.api(f"break {kind}")
            await asyncio.sleep(seconds)
            await scene.mend()
            trouble.well = time.monotonic()

    return fault


async def upgrade(scene: Scene) -> None:
    """SIGUSR2: every process is replaced by one of another generation."""
    scene.server.process.send_signal(signal.SIGUSR2)
    await scene.until("the upgrade", lambda: "the upgrade is complete" in scene.server.whole_log(), 60)


CASES: dict[str, Case] = {
    "none": Case("no fault", nothing, any_server=True),
    "reload": Case("five reloads", five_reloads, 20, any_server=True),
    "worker-killed": Case("SIGKILL of one of two workers", killed("worker 0"), 15, 2, 128, 500),
    "worker-hung": Case("SIGSTOP of one of two workers", killed("worker 0", signal.SIGSTOP), 20, 2, 128, 500),
    "control-killed": Case("SIGKILL of control", killed("control")),
    "control-hung": Case("SIGSTOP of control", killed("control", signal.SIGSTOP), 20),
    "api-outage": Case("the API server stands still for 60 s", api_outage, 80, any_server=True),
    "api-cut": Case("watches cut, and nothing else", api_fault("cut", 0.0), 12),
    "api-500": Case("5 s of 500 from the API server", api_fault("500")),
    "api-429": Case("5 s of 429", api_fault("429"), 20),
    "api-401": Case("5 s of 401", api_fault("401"), 20),
    "api-refused": Case("5 s of refused connections", api_fault("refused"), 20),
    "relist": Case("compaction, all endpoints listed anew", relist, 20, any_server=True),
    "upgrade": Case("upgrade in place", upgrade, 45),
}
