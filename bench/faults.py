"""Faults that a server must survive without losing queries.

A fault is a coroutine function, which returns when the server has recovered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from functools import partial

from bench.testbed import Fault, Testbed

OUTAGE = 60.0
"""Seconds for which the API server is stopped."""


@dataclass(frozen=True)
class Case:
    """A fault that `bench.reliability` measures, with the seconds of load, the number of workers, and the allowed
    losses.
    """

    description: str
    fault: Fault
    seconds: int = 15
    workers: int = 1
    max_lost: int = 0
    connections: int = 0
    """TCP connections that may close, with the queries outstanding on them."""
    any_server: bool = False
    """True if a server of one process can have this fault, too."""


async def nothing(_scene: Testbed) -> None:
    """Makes no fault, to measure the losses without a fault."""


async def five_reloads(testbed: Testbed) -> None:
    """Reloads the Corefile five times, each time with another `ttl`, so that all plugin chains are rebuilt."""
    path = testbed.server.corefile
    text = path.read_text()
    before = _reloads(testbed)
    for number in range(5):
        path.write_text(text.replace("ttl 30", f"ttl {29 - number}"))
        testbed.server.reload()
        await testbed.until("the reload", partial(_reloaded, testbed, before + number + 1), 30)
        await asyncio.sleep(0.5)


def _reloaded(testbed: Testbed, times: int) -> bool:
    return _reloads(testbed) >= times


def _reloads(testbed: Testbed) -> int:
    return testbed.server.whole_log().count("Reloading complete")


def killed(process: str, number: signal.Signals = signal.SIGKILL) -> Fault:
    """Returns a fault that sends a signal to one of the server's processes, and waits for the new process."""

    async def fault(testbed: Testbed) -> None:
        async with testbed.outage():
            before = testbed.signal(process, number)
            await testbed.until_replaced(process, before)

    return fault


async def api_outage(testbed: Testbed, seconds: float = OUTAGE) -> None:
    """Stops the process of the API server (SIGSTOP) for `seconds`. The connections stay open, but are silent."""
    pid = testbed.server.api.process.pid
    async with testbed.outage() as outage:
        async with testbed.without_changes():
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        outage.restored = time.monotonic()


async def relist(testbed: Testbed) -> None:
    """Makes the API server forget its history: every watch ends with 410, and the server lists all objects again."""
    async with testbed.outage():
        await testbed.api("relist")


def api_fault(kind: str, seconds: float = 5.0) -> Fault:
    """Returns a fault of the API server that lasts `seconds`.

    `kind` is an argument of the command `break` in `bench.api`.
    """

    async def fault(testbed: Testbed) -> None:
        async with testbed.outage() as outage:
            await testbed.api(f"break {kind}")
            await asyncio.sleep(seconds)
            await testbed.end_api_fault()
            outage.restored = time.monotonic()

    return fault


async def upgrade(testbed: Testbed) -> None:
    """Upgrades svcdns in place (SIGUSR2), which replaces every process."""
    testbed.server.process.send_signal(signal.SIGUSR2)
    await testbed.until("the upgrade", lambda: "the upgrade is complete" in testbed.server.whole_log(), 60)


CASES: dict[str, Case] = {
    "none": Case("no fault", nothing, any_server=True),
    "reload": Case("five reloads", five_reloads, 20, any_server=True),
    "worker-killed": Case("SIGKILL of one of two workers", killed("worker 0"), 15, 2, 128, 500),
    "worker-hung": Case("SIGSTOP of one of two workers", killed("worker 0", signal.SIGSTOP), 20, 2, 128, 500),
    "control-killed": Case("SIGKILL of control", killed("control")),
    "control-hung": Case("SIGSTOP of control", killed("control", signal.SIGSTOP), 20),
    "api-outage": Case("SIGSTOP of the API server for 60 s", api_outage, 80, any_server=True),
    "api-cut": Case("watches closed", api_fault("cut", 0.0), 12),
    "api-500": Case("500 from the API server for 5 s", api_fault("500")),
    "api-429": Case("429 for 5 s", api_fault("429"), 20),
    "api-401": Case("401 for 5 s", api_fault("401"), 20),
    "api-refused": Case("connections refused for 5 s", api_fault("refused"), 20),
    "relist": Case("compaction and relist", relist, 20, any_server=True),
    "upgrade": Case("upgrade in place", upgrade, 45),
}
