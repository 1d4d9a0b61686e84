"""Snapshots of the cluster views: read at a start, written while the cluster changes.

A view has one file in the folder that `snapshot` names, called after its watch options, so that views with other options never
overwrite each other. Rules: it is written beside and renamed, so that a reader sees the old one or the new one; only a view that its source
has listed is written, only when it has changed, and no more than a fiftieth of the time goes into it. Reading and writing have a thread, so
that a disk that hangs holds up no change, no start and no stop. What goes wrong is said and counted, and never ends a start or a watch.
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
from typing import Final

from svcdns import __version__
from svcdns.cluster.watch_options import SnapshotOptions
from svcdns.control.cluster_view import View
from svcdns.plugins.kubernetes.metrics import SNAPSHOT_LOADS, SNAPSHOT_WRITES
from svcdns.sources import snapshot_file
from svcdns.sources.snapshot_file import Header, Objects, Origin, Snapshot, SnapshotError
from svcdns.telemetry.counters import Counters

EVERY: Final = 5.0
"""Seconds between two looks whether there is something to write."""
REST: Final = 50
"""How many times as long as it took the next writing waits at least."""
STAMPED: Final = 30.0
"""Seconds by which a confirmation is newer than the one in the file before the file is told."""
PATIENCE: Final = 2.0
"""Seconds that a start waits for the reading, and a stop for the writing."""
ABANDONED: Final = 60.0
"""Seconds after which a file beside the snapshot is one whose writer was killed."""

Confirmed = Callable[[], float]
"""When the API server last confirmed all of a view, Unix seconds."""


class Keeper:
    """One view's snapshot file."""

    def __init__(
        self, view: View, options: SnapshotOptions, origin: Origin, watch: bytes, confirmed: Confirmed, counters: Counters,
        log: logging.Logger, *, now: Callable[[], float] = time.time, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        """`watch` are the view's watch options, encoded; `now` is Unix time in seconds."""
        self.path = Path(options.path) / f"{hashlib.sha256(watch).hexdigest()[:16]}.snapshot"
        self._view, self.options, self._origin, self._watch, self._confirmed = view, options, origin, watch, confirmed
        self._counters, self._log, self._now, self._sleep = counters, log, now, sleep
        self._written = -1
        self._stamped = 0.0
        self._complaint = ""
        self._writing: asyncio.Future[None] | None = None

    # -- reading

    async def read(self) -> Snapshot | None:
        """The snapshot, if there is one that can be used; otherwise the log says why not."""
        try:
            async with asyncio.timeout(PATIENCE):
                found = await asyncio.to_thread(snapshot_file.read, self.path, self._origin, self._watch, self._view.kinds)
            if found is not None:
                self._check_age(found)
        except (SnapshotError, TimeoutError) as error:
            reason = str(error) or f"it could not be read within {PATIENCE:g} s"
            self._log.warning("snapshot %s is not used: %s", self.path, reason)
            self._counters.count(SNAPSHOT_LOADS, "refused")
            return None
        if found is None:
            self._log.info("there is no snapshot %s yet", self.path)
            self._counters.count(SNAPSHOT_LOADS, "absent")
            return None
        objects = sum(map(len, found.objects.values()))
        age = self._now() - found.confirmed
        shown = f"confirmed {age:.0f} s ago" if age >= 0 else "confirmed at a time that is yet to come"
        self._log.warning("serving %d objects from the snapshot %s, %s, until the API server has been listed", objects, self.path, shown)
        self._counters.count(SNAPSHOT_LOADS, "used")
        return found

    def _check_age(self, found: Snapshot) -> None:
        age, most = self._now() - found.confirmed, self.options.max_age
        if most and age > most:
            raise SnapshotError(f"it was confirmed {age:.0f} s ago, and {most:.0f} s are the most")

    def restored(self, confirmed: float) -> None:
        """The view is as the file has it, confirmed at that time."""
        self._written, self._stamped = self._view.changes, confirmed

    # -- writing

    async def run(self) -> None:
        """Keeps the file up to date until cancelled."""
        pause = EVERY
        while True:
            await self._sleep(pause)
            begun = time.perf_counter()
            await self.update()
            pause = max(EVERY, REST * (time.perf_counter() - begun))

    async def finish(self) -> None:
        """Brings the file up to date for the last time, if the disk lets us."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                if self._writing is not None:
                    await asyncio.wait([self._writing])
                await self.update()

    async def update(self) -> None:
        """Brings the file up to date, if there is something to be told; not while it is written still."""
        if not self._view.is_listed or (self._writing is not None and not self._writing.done()):
            return
        try:
            if self._view.changes != self._written:
                await self._write()
            elif (confirmed := self._confirmed()) - self._stamped >= STAMPED:
                snapshot_file.stamp(self.path, confirmed)
                self._stamped = confirmed
        except FileNotFoundError:
            self._written = -1  # somebody took it away: it is made anew the next time
        except OSError as error:
            self._counters.count(SNAPSHOT_WRITES, "failed")
            self._complain((error.strerror or str(error)).lower())

    async def _write(self) -> None:
        changes, objects, confirmed = self._view.changes, self._view.objects(), self._confirmed()
        header = Header(__version__, self._now(), confirmed, self._origin, self._watch, self._view.kinds, self._view.serials)
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._put, header, objects))
        await asyncio.shield(self._writing)
        self._written, self._stamped = changes, confirmed
        self._counters.count(SNAPSHOT_WRITES, "done")
        if self._complaint:
            self._complaint = ""
            self._log.info("the snapshot %s is written again", self.path)

    def _put(self, header: Header, objects: Objects) -> None:
        """In its thread: the objects do not change."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
        beside = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as file:
                for _ in snapshot_file.write(file, header, objects):
                    time.sleep(0)  # the loop's thread first
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _sweep(self) -> None:
        """Removes what writers that were killed have left."""
        for path in self.path.parent.glob(f".{self.path.name}-*"):
            with contextlib.suppress(OSError):
                if self._now() - path.stat().st_mtime > ABANDONED:
                    path.unlink()

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            self._complaint = reason
            self._log.error("cannot write the snapshot %s: %s", self.path, reason)
