"""Reads the snapshot file of a cluster view at a start, and writes it while the cluster changes.

The name of the file is a hash of the view's watch options. The format is in `sources.snapshot_file`. Rules:

1. The file is replaced by renaming, so a reader never sees a part of a file.
2. A view is written only after its source has listed it, and only if it has changed. Writing takes at most 2 % of the
   time.
3. A disk that hangs delays no change of the cluster. A start or a stop is delayed by at most TIMEOUT seconds.
4. An error is logged and counted, and never ends a start or a watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from svcdns import __version__
from svcdns.cluster.watch_options import SnapshotOptions
from svcdns.control.cluster_view import ClusterView
from svcdns.log_line import LogLine
from svcdns.plugins.kubernetes.metrics import SNAPSHOT_LOADS, SNAPSHOT_WRITES
from svcdns.process.blocking_io import WARN_AFTER, in_thread, start
from svcdns.sources import snapshot_file
from svcdns.sources.snapshot_file import Header, Objects, Origin, Snapshot, SnapshotError
from svcdns.telemetry.counters import Counters

EVERY: Final = 5.0
"""Minimum number of seconds between two checks for something to write."""
REST: Final = 50
"""The pause after a write lasts at least this many times as long as the write."""
STAMP_STEP: Final = 30.0
"""A confirmation is written if it is at least this many seconds newer than the confirmation in the file."""
TIMEOUT: Final = 2.0
"""Seconds that a start waits for reading, and a stop for writing."""
ABANDONED: Final = 60.0
"""A temporary file older than this, in seconds, was left by a writer that was killed, and is removed."""

Confirmed = Callable[[], float]
"""Returns when the API server last confirmed the whole view, in Unix seconds."""


class SnapshotWriter:
    """Reads and writes the snapshot file of one cluster view."""

    def __init__(
        self, view: ClusterView, options: SnapshotOptions, origin: Origin, watch: bytes, confirmed: Confirmed, counters: Counters,
        log: logging.Logger, *, now: Callable[[], float] = time.time, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        """`watch` has the cluster view's encoded watch options.

        `origin` identifies the cluster. `now` returns Unix seconds.
        """
        self.path = Path(options.path) / f"{hashlib.sha256(watch).hexdigest()[:16]}.snapshot"
        self._view, self.options, self._origin, self._watch, self._confirmed = view, options, origin, watch, confirmed
        self._counters, self._log, self._now, self._sleep = counters, log, now, sleep
        self._written = -1
        self._stamped = 0.0
        self._last_error = ""
        self._writing: asyncio.Future[None] | None = None

    # -- reading

    async def read(self) -> Snapshot | None:
        """Reads the snapshot. Returns None, with a log line, if there is none or it cannot be used."""
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await in_thread(snapshot_file.read, self.path, self._origin, self._watch, self._view.kinds)
            if found is not None:
                self._check_age(found)
        except (SnapshotError, TimeoutError) as error:
            reason = str(error) or f"it could not be read within {TIMEOUT:g} s"
            self._log.warning(LogLine("the snapshot is not used", path=self.path, error=reason))
            self._counters.count(SNAPSHOT_LOADS, "refused")
            return None
        if found is None:
            self._log.info(LogLine("there is no snapshot yet", path=self.path))
            self._counters.count(SNAPSHOT_LOADS, "missing")
            return None
        objects = sum(map(len, found.objects.values()))
        age = self._now() - found.confirmed
        self._log.warning(
            LogLine(
                "serving from the snapshot until the API server has been listed",
                objects=objects, path=self.path, age_seconds=round(age),
            )
        )  # fmt: skip
        self._counters.count(SNAPSHOT_LOADS, "used")
        return found

    def _check_age(self, found: Snapshot) -> None:
        age, most = self._now() - found.confirmed, self.options.max_age
        if most and age > most:
            raise SnapshotError(f"it was confirmed {age:.0f} s ago, more than max_age of {most:.0f} s")

    def restored(self, confirmed: float) -> None:
        """Records that the cluster view was restored from the snapshot, so that the file need not be written now.

        `confirmed` is the time at which the API server last confirmed the objects, in Unix seconds.
        """
        self._written, self._stamped = self._view.changes, confirmed

    # -- writing

    async def run(self) -> None:
        """Writes the file whenever the cluster view has changed, until cancelled."""
        pause = EVERY
        while True:
            await self._sleep(pause)
            begun = time.perf_counter()
            await self.update()
            pause = max(EVERY, REST * (time.perf_counter() - begun))

    async def finish(self) -> None:
        """Writes the file for the last time. Stops waiting after TIMEOUT seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                if self._writing is not None:
                    await asyncio.wait([self._writing])
                await self.update()

    async def update(self) -> None:
        """Writes the snapshot file if the cluster view has changed.

        If the view is unchanged, writes only the time at which the API server last confirmed the objects. Does nothing
        while an earlier write is running.
        """
        if not self._view.is_listed or (self._writing is not None and not self._writing.done()):
            return
        try:
            if self._view.changes != self._written:
                await self._write()
            elif (confirmed := self._confirmed()) - self._stamped >= STAMP_STEP:
                await self._in_thread(snapshot_file.stamp, self.path, confirmed)
                self._stamped = confirmed
        except FileNotFoundError:
            self._written = -1  # the file was removed: the next check writes the whole file again
        except OSError as error:
            self._counters.count(SNAPSHOT_WRITES, "failed")
            self._log_error((error.strerror or str(error)).lower())

    async def _write(self) -> None:
        changes, objects, confirmed = self._view.changes, self._view.objects(), self._confirmed()
        header = Header(
            __version__, self._now(), confirmed, self._origin, self._watch, self._view.kinds, self._view.serials
        )
        await self._in_thread(self._put, header, objects)
        self._written, self._stamped = changes, confirmed
        self._counters.count(SNAPSHOT_WRITES, "done")
        if self._last_error:
            self._last_error = ""
            self._log.info(LogLine("the snapshot is written again", path=self.path))

    async def _in_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        """Calls a function in a thread.

        If the caller is cancelled, the thread goes on, and `finish` waits for it.
        """
        self._writing = start(function, *arguments)
        await asyncio.wait([self._writing], timeout=WARN_AFTER)
        if not self._writing.done():
            self._log.warning(
                LogLine(
                    "the snapshot is not written yet: still waiting for the disk", path=self.path, seconds=WARN_AFTER
                )
            )
        await asyncio.shield(self._writing)

    def _put(self, header: Header, objects: Objects) -> None:
        """Writes the file. Call it in a thread. `objects` must not change during the call."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
        beside = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        try:
            with os.fdopen(
                os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb"
            ) as file:
                for _ in snapshot_file.write(file, header, objects):
                    time.sleep(0)  # releases the interpreter lock, so that the event loop's thread can run
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _sweep(self) -> None:
        """Removes the temporary files of writers that were killed."""
        for path in self.path.parent.glob(f".{self.path.name}-*"):
            with contextlib.suppress(OSError):
                if self._now() - path.stat().st_mtime > ABANDONED:
                    path.unlink()

    def _log_error(self, reason: str) -> None:
        if reason != self._last_error:
            self._last_error = reason
            self._log.error(LogLine("cannot write the snapshot", path=self.path, error=reason))
