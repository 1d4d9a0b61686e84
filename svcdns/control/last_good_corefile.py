"""The last good Corefile in the state folder (`-state`), which is used if the present one is unusable at a start.

The file has a SHA-256 and the parsed Corefile. Rules:

1. A file that cannot be used is ignored, with a log line.
2. While the last good Corefile is in use, the metric `svcdns_corefile_fallback` is 1. An ERROR line reports its use.
3. The file is replaced by renaming, so a reader never sees a part of a file.
4. A state folder that hangs delays a start by at most WRITE_WAIT seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from pathlib import Path
from typing import Final

import msgspec

from svcdns import __version__
from svcdns.corefile.blocks import Corefile
from svcdns.errors import UNDECODABLE, SvcdnsError
from svcdns.log_line import LogLine
from svcdns.process.atomic_file import replace_file
from svcdns.process.blocking_io import BlockingCalls
from svcdns.telemetry.counters import Counters, Family, MetricKind

FILE: Final = "corefile.msgpack"
READ_LIMIT: Final = 10.0
"""Seconds that reading the file may take."""
WRITE_WAIT: Final = 2.0
"""Seconds that a start or a reload waits for a write to finish."""
FALLBACK: Final = Family(
    "svcdns_corefile_fallback",
    MetricKind.GAUGE,
    "1 while the last good Corefile serves because the present one cannot be used.",
)

log = logging.getLogger("svcdns")


class StateError(SvcdnsError):
    """Raised if the state folder cannot be read or written, or the file in it cannot be used."""


class SavedCorefile(msgspec.Struct, frozen=True, array_like=True):
    """A Corefile that was in use at `time` (Unix seconds). `version` is the version of the program that wrote it."""

    version: str
    time: float
    corefile: Corefile


class LastGoodCorefile:
    """Finds and saves the last good Corefile. Does nothing if there is no state folder."""

    def __init__(self, folder: str | None, counters: Counters, calls: BlockingCalls) -> None:
        """`folder` is the value of `-state` or SVCDNS_STATE. The folder is created when the first Corefile is saved."""
        self._path = Path(folder) / FILE if folder else None
        self._counters, self._calls = counters, calls
        self._next: Corefile | None = None
        self._writing: asyncio.Task[None] | None = None
        self.serves = False
        """Whether the saved Corefile is in use instead of the present one."""

    async def find(self) -> SavedCorefile | None:
        """Reads the saved Corefile. Returns None if there is none or it cannot be used."""
        if self._path is None:
            return None
        try:
            return await self._calls.run("the last good Corefile", read, self._path, limit=READ_LIMIT)
        except SvcdnsError as reason:
            self.refused(reason)
            return None

    def refused(self, reason: SvcdnsError) -> None:
        """Logs why the saved Corefile cannot be used."""
        log.error(LogLine("the last good Corefile cannot be used", error=reason))

    def takes_over(self, saved: SavedCorefile, error: SvcdnsError) -> None:
        """Logs that the saved Corefile is used because the present one has the error `error`.

        Sets the metric `svcdns_corefile_fallback` to 1.
        """
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(saved.time))
        log.error(LogLine("serving the last good Corefile", saved=when, error=error))
        self._counters.set(self._counters.cell(FALLBACK), 1)
        self.serves = True

    async def save(self, corefile: Corefile) -> None:
        """Saves the Corefile that is now in use to the state folder.

        If the folder is slow, the call returns after WRITE_WAIT seconds, and a task goes on writing. Of several waiting
        Corefiles, only the newest is written.
        """
        self.serves = False
        if self._path is None:
            return
        self._counters.set(self._counters.cell(FALLBACK), 0)
        self._next = corefile
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(self._path))
        await asyncio.wait([self._writing], timeout=WRITE_WAIT)

    async def _write(self, path: Path) -> None:
        while self._next is not None:
            corefile, self._next = self._next, None
            try:
                await self._calls.run(f"the state folder {path.parent}", write, path, corefile, time.time())
            except SvcdnsError as error:
                log.warning(LogLine("the Corefile is not saved", error=error))

    async def stop(self) -> None:
        """Stops waiting for a write that has not finished."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)


def read(path: Path) -> SavedCorefile | None:
    """Reads a saved Corefile. Returns None if the file does not exist. Blocks. Raises StateError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    digest, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != digest:
        raise StateError(f"{path} is damaged: its checksum is wrong")
    try:
        return msgspec.msgpack.decode(body, type=SavedCorefile)
    except UNDECODABLE as error:
        raise StateError(f"{path} was written by another version: {error}") from error


def write(path: Path, corefile: Corefile, now: float) -> None:
    """Writes a Corefile to `path`. `now` is in Unix seconds. Blocks. Raises StateError."""
    body = msgspec.msgpack.encode(SavedCorefile(__version__, now, corefile))
    try:
        replace_file(path, hashlib.sha256(body).digest() + body)
    except OSError as error:
        raise StateError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
