"""The functions of operators' tools that the control process may run in a worker.

The modules behind them are imported at the first call. A function may take seconds, but must leave the event loop free.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.feed.frames import Call, Returned
from svcdns.log_line import LogLine

if TYPE_CHECKING:
    from svcdns.worker.inspected import Inspected

log = logging.getLogger("svcdns")


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
        log.exception(LogLine("the function of a tool failed", function=call.function))
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


async def _list_replies(argument: bytes, worker: Inspected) -> bytes:
    from svcdns.worker import cache_calls

    return msgspec.msgpack.encode(await cache_calls.listed(worker, *cache_calls.decode_selection(argument)))


async def _drop_replies(argument: bytes, worker: Inspected) -> bytes:
    from svcdns.worker import cache_calls

    return msgspec.msgpack.encode(await cache_calls.dropped(worker, cache_calls.decode_selection(argument)[0]))


FUNCTIONS: Final[dict[str, Callable[[bytes, Inspected], Awaitable[bytes]]]] = {
    "cpu_profile": _cpu_profile,
    "heap_profile": _heap_profile,
    "stacks": _stacks,
    "status": _status,
    "list_replies": _list_replies,
    "drop_replies": _drop_replies,
}
