"""The file of one zone in the state folder, from which a start serves the zone before a primary server answers.

The file has the time at which a primary server last confirmed the content, and the content with a SHA-256. Rules:

1. A file that cannot be used is ignored, with a log line. So is the file of a zone that has expired.
2. The file is written in a thread. Writing takes at most 1/REST of the time.
3. An error while writing is logged, and changes nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from svcdns.errors import UNDECODABLE, SvcdnsError
from svcdns.log_line import LogLine
from svcdns.plugins.secondary.refresher import Timers
from svcdns.process.atomic_file import replace_file
from svcdns.process.blocking_io import in_thread
from svcdns.wire import names
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import serial_of
from svcdns.zones.content import decode, portions

FOLDER: Final = "zones"
"""The subfolder of the state folder."""
REST: Final = 20
LEAST_REST: Final = 1.0
"""The least number of seconds between two writes."""
STAMP: Final = 16
"""The time of the last confirmation is written again after this part of the zone's expire time, or after a minute."""
_HEAD: Final = struct.Struct(">8sdI32s")
"""A fixed text, the time of the last confirmation in Unix seconds, the serial, and the SHA-256 of the rest."""
_MAGIC: Final = b"svczone1"


class StateFileError(SvcdnsError):
    """Raised if the file cannot be read, or is damaged."""


class SavedZone(msgspec.Struct, frozen=True, array_like=True):
    """The content of a zone (see `zones.content`), and the primary servers at the time of its transfer."""

    zone: bytes
    primaries: tuple[tuple[str, int], ...]
    payload: bytes


class Found(NamedTuple):
    """A saved zone, and the seconds since a primary server confirmed it."""

    saved: SavedZone
    age: float


def path_of(folder: str, zone: bytes) -> Path:
    """Returns the path of a zone's file."""
    return Path(folder) / FOLDER / f"{hashlib.sha256(zone).hexdigest()[:32]}.zone"


def read(path: Path, zone: bytes) -> Found | None:
    """Reads the file of a zone. Returns None if the file does not exist. Blocks. Raises StateFileError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateFileError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        magic, confirmed, _, digest = _HEAD.unpack_from(content)
        body = content[_HEAD.size :]
        if magic != _MAGIC or hashlib.sha256(body).digest() != digest:
            raise StateFileError(f"{path} is damaged: its checksum is wrong")
        saved = msgspec.msgpack.decode(body, type=SavedZone)
        for _ in portions(decode(saved.payload)):
            pass
    except (*UNDECODABLE, struct.error) as error:
        raise StateFileError(f"{path} is damaged: {error}") from error
    if saved.zone != zone:
        raise StateFileError(f"{path} is of another zone")
    return Found(saved, max(0.0, time.time() - confirmed))


def usable(path: Path, zone: bytes, primaries: tuple[tuple[str, int], ...], log: logging.Logger) -> bytes:
    """Returns the content of a zone from its file; empty if the file cannot be used. Blocks."""
    try:
        found = read(path, zone)
    except StateFileError as error:
        log.warning(LogLine("the zone is transferred anew", zone=names.to_text(zone), error=error))
        return b""
    if found is None or not set(found.saved.primaries) & set(primaries):
        return b""
    soa = decode(found.saved.payload).soa
    timers, text = Timers.of(soa), names.to_text(zone)
    if found.age >= timers.expire:
        log.warning(LogLine("a saved zone has expired; the zone is transferred anew", zone=text, path=path))
        return b""
    log.info(LogLine("a saved zone is used", zone=text, serial=timers.serial, path=path, age_seconds=round(found.age)))
    return found.saved.payload


class StateFile:
    """Writes the file of one zone."""

    def __init__(self, path: Path, zone: bytes, primaries: tuple[tuple[str, int], ...], log: logging.Logger) -> None:
        """`primaries` are the zone's present primary servers."""
        self._path, self._zone, self._primaries, self._log = path, zone, primaries, log
        self._pending: tuple[bytes, int] | None = None
        """The content and the serial of the version to write next."""
        self._confirmed = self._stamped = 0.0
        self._task: asyncio.Task[None] | None = None
        self._last_error = ""

    async def age(self, serial: int) -> float:
        """Returns the seconds since a primary server confirmed the version `serial`; 0 if that is unknown."""
        try:
            head = await in_thread(_read_head, self._path)
            magic, confirmed, saved, _ = _HEAD.unpack(head)
        except (OSError, struct.error):
            return 0.0
        return max(0.0, time.time() - confirmed) if (magic, saved) == (_MAGIC, serial) else 0.0

    def save(self, payload: bytes, soa: Record) -> None:
        """Writes the version `payload`, which has just been transferred. `soa` is its SOA record.

        Returns before the file is written.
        """
        self._pending, self._confirmed = (payload, serial_of(soa)), time.time()
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._write())

    def confirm(self, payload: bytes, soa: Record) -> None:
        """Notes that a primary server has confirmed the version `payload` now. `soa` is its SOA record."""
        now = self._confirmed = time.time()
        is_writing = self._task is not None and not self._task.done()
        if not is_writing and now - self._stamped >= min(60.0, Timers.of(soa).expire / STAMP):
            self._task = asyncio.ensure_future(self._stamp(payload, serial_of(soa)))

    def stop(self) -> None:
        """Starts no more writes. A write that has begun is completed."""
        if self._task is not None:
            self._task.cancel()

    def remove(self) -> None:
        """Removes the file. Returns before the file is removed."""
        self.stop()
        self._task = asyncio.ensure_future(self._in_thread(lambda: self._path.unlink(missing_ok=True)))

    async def _write(self) -> None:
        while self._pending is not None:
            (payload, serial), self._pending, begun = self._pending, None, time.monotonic()
            self._stamped = self._confirmed
            await self._in_thread(lambda: self._put(payload, serial, self._stamped))  # noqa: B023 - awaited here
            await asyncio.sleep(max(LEAST_REST, REST * (time.monotonic() - begun)))

    async def _stamp(self, payload: bytes, serial: int) -> None:
        self._stamped = self._confirmed
        await self._in_thread(lambda: self._put_stamp(payload, serial, self._stamped))

    async def _in_thread(self, call: Callable[[], None]) -> None:
        try:
            await in_thread(call)
            self._last_error = ""
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if reason != self._last_error:
                self._last_error = reason
                zone = names.to_text(self._zone)
                self._log.error(LogLine("cannot save a zone", zone=zone, path=self._path, error=reason))

    def _put(self, payload: bytes, serial: int, confirmed: float) -> None:
        body = msgspec.msgpack.encode(SavedZone(self._zone, self._primaries, payload))
        replace_file(self._path, _HEAD.pack(_MAGIC, confirmed, serial, hashlib.sha256(body).digest()) + body)

    def _put_stamp(self, payload: bytes, serial: int, confirmed: float) -> None:
        """Writes the time of the last confirmation into the file. Writes the whole file if it has another version."""
        try:
            magic, _, saved, _ = _HEAD.unpack(_read_head(self._path))
            is_current = (magic, saved) == (_MAGIC, serial)
        except (OSError, struct.error):
            is_current = False
        if not is_current:
            self._put(payload, serial, confirmed)
            return
        file = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(file, struct.pack(">d", confirmed), len(_MAGIC))
        finally:
            os.close(file)


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD.size)
