"""Hands the state of kept objects, such as the caches of plugins, to the worker that replaces this one.

Only objects with the methods `pack(now)` and `unpack(portion, now)` are handed over. The state is written to a file in
memory as frames of MessagePack (`process.framing`). A frame has the key of an object and one portion of its state.
Rules:

1. The file has at most MAX_OCTETS, and packing takes at most MAX_SECONDS.
2. After each time slice, other work runs.
3. A portion that cannot be read is ignored.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any, Final

import msgspec

from svcdns.errors import UNDECODABLE
from svcdns.eventloop.time_slice import TimeSlice
from svcdns.log_line import LogLine
from svcdns.process.framing import Deframer, FrameTooLargeError, framed
from svcdns.process.shared_memory import memory_file

MAX_OCTETS: Final = 16 << 20
MAX_SECONDS: Final = 1.0
"""The seconds that packing may take; state that is not packed by then is left out."""
_CHUNK: Final = 65536

log = logging.getLogger("svcdns")


async def pack(kept: Mapping[tuple[Any, ...], Any], now: float) -> int:
    """Writes the state of kept objects, such as caches, to a file in memory.

    Returns the file's descriptor, positioned at the start.
    """
    fd = memory_file("svcdns-kept")
    ends, slice_, size = perf_counter() + MAX_SECONDS, TimeSlice(), 0
    for frame in _frames(kept, now):
        size += len(frame)
        if size > MAX_OCTETS or perf_counter() > ends:
            break
        os.write(fd, frame)
        await slice_.pause()
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


async def unpack(fd: int, kept: Mapping[tuple[Any, ...], Any], now: float, poll_sockets: Callable[[], bool]) -> int:
    """Reads the state of kept objects, such as caches, from the file that `pack` wrote in the previous worker.

    Passes each portion to the object in `kept` with the same key, and returns the number of these portions. Closes the
    file. `poll_sockets` reads the sockets after each time slice, and returns True if it did.
    """
    successors = {_name(key): one for key, one in kept.items() if hasattr(one, "unpack")}
    count, frames = 0, Deframer()
    try:
        while chunk := os.read(fd, _CHUNK):
            frames.feed(chunk)
            for frame in frames.contents():
                count += _import(frame, successors, now)
                if poll_sockets():
                    await asyncio.sleep(0)  # lets connections and timers run
    except FrameTooLargeError as error:
        log.debug(LogLine("the rest of the predecessor's kept state cannot be read", error=error))
    finally:
        os.close(fd)
    return count


def _frames(kept: Mapping[tuple[Any, ...], Any], now: float) -> Iterator[bytes]:
    for key, one in kept.items():
        if hasattr(one, "pack"):
            name = _name(key)
            for portion in one.pack(now):
                yield framed(msgspec.msgpack.encode((name, portion)))


def _import(frame: bytes, successors: Mapping[str, Any], now: float) -> bool:
    try:
        name, portion = msgspec.msgpack.decode(frame, type=tuple[str, bytes])
        one = successors.get(name)
        if one is None:
            return False
        one.unpack(portion, now)
    except UNDECODABLE as error:
        log.debug(LogLine("a portion of the predecessor's kept state cannot be read", error=error))
        return False
    return True


def _name(key: tuple[Any, ...]) -> str:
    return repr(key)
