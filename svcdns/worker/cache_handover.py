"""The state that plugins keep (their caches above all) goes to the worker that takes this one's place, so that an
upgrade costs the upstreams no surge of queries.

The state goes through a file in memory, whose descriptor is handed over. The file has frames (`process.framing`) of
msgpack, each with the key of a kept object and one portion of its state. Every object under such a key that has
`pack(now)`, which yields portions, and `unpack(portion, now)` takes part. Knows nothing of what is in a portion.

Rules: at most MAX_OCTETS and MAX_SECONDS; no work takes longer than a slice; a portion that cannot be read is left out.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any, Final

import msgspec

from svcdns.eventloop.time_slice import TimeSlice
from svcdns.process.framing import Deframer, FrameTooLargeError, framed
from svcdns.process.shared_memory import memory_file

MAX_OCTETS: Final = 16 << 20
MAX_SECONDS: Final = 1.0
"""Seconds that packing may take; what has not been packed then is left out."""
_CHUNK: Final = 65536

log = logging.getLogger("svcdns")


async def pack(kept: Mapping[tuple[Any, ...], Any], now: float) -> int:
    """The descriptor of a file with the state of the kept objects, at its start."""
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
    """Gives the objects that are kept here under the same keys their portions, and closes the file; returns how many
    there were.

    `poll_sockets` reads the sockets if it is time to.
    """
    successors = {_name(key): one for key, one in kept.items() if hasattr(one, "unpack")}
    count, frames = 0, Deframer()
    try:
        while chunk := os.read(fd, _CHUNK):
            frames.feed(chunk)
            for frame in frames.contents():
                count += _import(frame, successors, now)
                if poll_sockets():
                    await asyncio.sleep(0)  # connections and timers
    except FrameTooLargeError as error:
        log.debug("the rest of the predecessor's kept state cannot be read: %s", error)
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
    except msgspec.DecodeError as error:
        log.debug("a portion of the state that plugins kept in the worker before this one cannot be read: %s", error)
        return False
    return True


def _name(key: tuple[Any, ...]) -> str:
    return repr(key)
