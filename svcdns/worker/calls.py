"""The functions of operators' tools that the control process may run in a worker.

The modules behind them are imported at the first call. A function may take seconds, but must leave the event loop free.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.feed.frames import Call, Returned

log = logging.getLogger("svcdns")


async def run(call: Call) -> Returned:
    """Runs the function of a call, and returns its result. An exception becomes an error; it is never raised."""
    function = FUNCTIONS.get(call.function)
    if function is None:
        return Returned(call.number, b"", f"no function {call.function!r}")
    try:
        return Returned(call.number, await function(call.argument))
    except SvcdnsError as error:
        return Returned(call.number, b"", str(error))
    except Exception as error:
        log.exception("The function %s of a tool failed", call.function)
        return Returned(call.number, b"", f"{type(error).__name__}: {error}")


async def _cpu_profile(argument: bytes) -> bytes:
    from svcdns.telemetry import profiles

    return msgspec.msgpack.encode(await profiles.cpu(msgspec.msgpack.decode(argument, type=float)))


async def _heap_profile(argument: bytes) -> bytes:
    from svcdns.telemetry import profiles

    return msgspec.msgpack.encode(await profiles.heap(msgspec.msgpack.decode(argument, type=float)))


async def _stacks(_argument: bytes) -> bytes:
    from svcdns.telemetry import profiles

    return profiles.stacks().encode()


FUNCTIONS: Final[dict[str, Callable[[bytes], Awaitable[bytes]]]] = {
    "cpu_profile": _cpu_profile,
    "heap_profile": _heap_profile,
    "stacks": _stacks,
}
