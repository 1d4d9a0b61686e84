"""The functions of operators' tools that the control process may run in a worker.

The modules behind them are imported at the first call. A function may take seconds, but must leave the event loop free.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.eventloop.clock import Clock
from svcdns.feed.frames import Call, Returned
from svcdns.serving.listeners import Listeners

log = logging.getLogger("svcdns")


class Inspected(Protocol):
    """The worker in which a function runs."""

    listeners: Listeners
    clock: Clock


async def run(call: Call, worker: Inspected) -> Returned:
    """Runs the function of a call, and returns its result. An exception becomes an error; it is never raised."""
    function = FUNCTIONS.get(call.function)
    if function is None:
        return Returned(call.number, b"", f"no function {call.function!r}")
    try:
        return Returned(call.number, await function(call.argument, worker))
    except SvcdnsError as error:
        return Returned(call.number, b"", str(error))
    except Exception as error:
        log.exception("The function %s of a tool failed", call.function)
        return Returned(call.number, b"", f"{type(error).__name__}: {error}")


async def _cpu_profile(argument: bytes, _worker: Inspected) -> bytes:
    from svcdns.telemetry import profiles

    return msgspec.msgpack.encode(await profiles.cpu(msgspec.msgpack.decode(argument, type=float)))


async def _heap_profile(argument: bytes, _worker: Inspected) -> bytes:
    from svcdns.telemetry import profiles

    return msgspec.msgpack.encode(await profiles.heap(msgspec.msgpack.decode(argument, type=float)))


async def _stacks(_argument: bytes, _worker: Inspected) -> bytes:
    from svcdns.telemetry import profiles

    return profiles.stacks().encode()


async def _status(_argument: bytes, worker: Inspected) -> bytes:
    from svcdns.feed.tool_messages import WorkerStatus

    tables = worker.listeners.tables
    status = WorkerStatus(
        os.getpid(), sum(map(len, tables)), sum(table.used for table in tables), worker.listeners.budget
    )
    return msgspec.msgpack.encode(status)


FUNCTIONS: Final[dict[str, Callable[[bytes, Inspected], Awaitable[bytes]]]] = {
    "cpu_profile": _cpu_profile,
    "heap_profile": _heap_profile,
    "stacks": _stacks,
    "status": _status,
}
