"""What plugins keep goes to the worker that takes this one's place: their caches above all, so that an upgrade costs upstreams no surge.

It goes through a file in memory, whose descriptor is handed over: frames of a length and msgpack, each with the key of what keeps it and
one portion. Whatever is kept under such a key and has `pack(now)`, which yields portions, and `unpack(portion, now)` takes part. Rules: at
most MAX_OCTETS and PATIENCE; nothing goes on for longer than a slice; a portion that cannot be read is left out."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any, Final

import msgspec

from svcdns.process.shared_memory import memory

MAX_OCTETS: Final = 16 << 20
PATIENCE: Final = 1.0
"""Seconds that packing may take; what has not been packed then stays behind."""
SLICE: Final = 0.0002
"""Seconds of packing after which everything else of the worker gets its turn."""
_CHUNK: Final = 65536
_LENGTH: Final = 4

log = logging.getLogger("svcdns")


async def pack(kept: Mapping[tuple[Any, ...], Any], now: float) -> int:
    """The descriptor of a file with what goes over; its reading begins at its start."""
    fd = memory("svcdns-kept")
    began = last = perf_counter()
    size = 0
    for frame in _frames(kept, now):
        size += len(frame)
        if size > MAX_OCTETS or last - began > PATIENCE:
            break
        os.write(fd, frame)
        if perf_counter() - last > SLICE:
            await asyncio.sleep(0)
            last = perf_counter()
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


async def unpack(fd: int, kept: Mapping[tuple[Any, ...], Any], now: float, poll_sockets: Callable[[], bool]) -> int:
    """Gives what is kept here under the same keys its portions, and closes the file; how many there were.

    `poll_sockets` reads the sockets if it is time to.
    """
    heirs = {_name(key): heir for key, heir in kept.items() if hasattr(heir, "unpack")}
    count, buffer = 0, b""
    try:
        while chunk := os.read(fd, _CHUNK):
            buffer += chunk
            at = 0
            while at + _LENGTH <= len(buffer) and at + (size := _LENGTH + int.from_bytes(buffer[at : at + _LENGTH], "big")) <= len(buffer):
                count += _taken(buffer[at + _LENGTH : at + size], heirs, now)
                at += size
                if poll_sockets():
                    await asyncio.sleep(0)  # connections and timers
            buffer = buffer[at:]
    finally:
        os.close(fd)
    return count


def _frames(kept: Mapping[tuple[Any, ...], Any], now: float) -> Iterator[bytes]:
    for key, keeper in kept.items():
        if hasattr(keeper, "pack"):
            name = _name(key)
            for portion in keeper.pack(now):
                frame = msgspec.msgpack.encode((name, portion))
                yield len(frame).to_bytes(_LENGTH, "big") + frame


def _taken(frame: bytes, heirs: Mapping[str, Any], now: float) -> bool:
    try:
        name, portion = msgspec.msgpack.decode(frame, type=tuple[str, bytes])
        heir = heirs.get(name)
        if heir is None:
            return False
        heir.unpack(portion, now)
    except msgspec.DecodeError as error:
        log.debug("a portion of what the worker before this one kept cannot be read: %s", error)
        return False
    return True


def _name(key: tuple[Any, ...]) -> str:
    return repr(key)
