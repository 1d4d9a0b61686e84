"""The part of the plugin `sign` that runs in the control process: checks the signed file of a zone, and signs the zone.

Rules (docs/plugins/sign.md):

1. A zone is checked at a start, at each reload of the Corefile, and every CHECK seconds.
2. If a zone cannot be signed, its signed file stays. The zone is checked again after RETRY seconds.
3. Files are read in threads, and another process signs, so that control's event loop does not wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.errors import UNDECODABLE
from svcdns.log_line import LogLine
from svcdns.plugins.sign import key_files
from svcdns.plugins.sign.options import ZoneToSign
from svcdns.plugins.sign.program import Job, Result
from svcdns.plugins.sign.schedule import CHECK, Jitter, check, shown
from svcdns.plugins.sign.state import State
from svcdns.process import isolated
from svcdns.process.blocking_io import in_thread
from svcdns.process.parent_death import PARENT
from svcdns.telemetry.logging import plugin_logger

RETRY: Final = 60.0
"""Seconds until a zone that could not be signed is checked again."""
SHOWN_WARNINGS: Final = 10
"""The most warnings about a zone file that are logged each time the zone is signed."""

Publish = Callable[[Mapping[str, bytes]], Awaitable[None]]
"""Sends changed data to the workers."""

_wakes: dict[ZoneToSign, Callable[[], None]] = {}
"""By zone: a function that begins a check of the zone. Any thread may call the function."""


def wake(zone: ZoneToSign) -> None:
    """Begins a check of a zone, if the zone is being watched. Can be called in any thread."""
    call = _wakes.get(zone)
    if call is not None:
        call()


def run(job: Job) -> Result:
    """Signs a zone in a process of its own, and waits for the process. Blocks."""
    command = isolated.command("svcdns.plugins.sign.program")
    environment = {**os.environ, PARENT: str(os.getpid())}
    try:
        done = subprocess.run(
            command,
            input=msgspec.msgpack.encode(job),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
        return msgspec.msgpack.decode(done.stdout, type=Result)
    except OSError as error:
        return Result(f"cannot start a process: {(error.strerror or str(error)).lower()}")
    except UNDECODABLE:
        return Result(f"the process that signs ended with code {done.returncode}")


class Watcher:
    """Keeps one zone signed, and publishes the state of its signed file."""

    def __init__(
        self,
        zone: ZoneToSign,
        publish: Publish,
        sign: Callable[[Job], Result] = run,
        now: Callable[[], float] = time.time,
        log: logging.Logger | None = None,
    ) -> None:
        """`sign` does a job, and blocks. `now` returns the time in Unix seconds."""
        self._zone, self._publish, self._sign, self._now = zone, publish, sign, now
        self._log = log or plugin_logger("sign")
        self._jitter = Jitter.drawn()
        self._last_error = ""
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Checks and signs the zone until the task is cancelled."""
        loop = asyncio.get_running_loop()
        woken = self._woken

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(woken.set)

        _wakes[self._zone] = wake
        try:
            is_asked = True
            while True:
                pause = await self.check(is_asked=is_asked)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):  # before Python 3.12, `wait_for` may lose a cancellation
                        await woken.wait()
                is_asked = woken.is_set()
                woken.clear()
        finally:
            _wakes.pop(self._zone, None)

    async def check(self, *, is_asked: bool = False) -> float:
        """Checks the signed file, and signs the zone if necessary. Returns the seconds until the next check.

        `is_asked` is True at a start or a reload. Then a line is logged even if nothing has to be done.
        """
        zone, now = self._zone, self._now()
        try:
            paths = await in_thread(key_files.found, zone)
            keys = [await in_thread(key_files.load, path, b"\x00") for path in paths]
        except CorefileError as error:
            return await self._failed(f'Error signing "{zone.zone}": {error}')
        tags = [key.tag for key in keys]
        found = await in_thread(check, zone.signed_file, zone.file, tags, now)
        if not found.reason:
            if is_asked:
                self._log.info('Skipping signing zone "%s" in "%s": signatures are valid', zone.zone, zone.signed_file)
            await self._succeeded(found.expiration)
            return CHECK
        if not self._last_error:
            self._log.info('Signing "%s" because %s', zone.zone, found.reason)
        shown_tags = ",".join(map(str, tags))
        period = self._jitter.period(now)
        job = Job(
            zone.file, zone.zone, zone.signed_file, paths, int(now) & 0xFFFFFFFF, period.inception, period.expiration
        )
        begun = time.monotonic()
        result = await in_thread(self._sign, job)
        elapsed = time.monotonic() - begun
        if result.error:
            return await self._failed(f'Error signing "{zone.zone}" with key tags "{shown_tags}": {result.error}')
        for text in result.warnings[:SHOWN_WARNINGS]:
            self._log.warning(LogLine("a warning about the zone file", path=zone.file, warning=text))
        if len(result.warnings) > SHOWN_WARNINGS:
            more = len(result.warnings) - SHOWN_WARNINGS
            self._log.warning(LogLine("more warnings about the zone file", path=zone.file, warnings=more))
        self._log.info(
            'Successfully signed zone "%s" in "%s" with key tags "%s" and %d SOA serial, elapsed %f, next: %s',
            zone.zone, zone.signed_file, shown_tags, job.serial, elapsed, shown(now + CHECK),
        )  # fmt: skip
        await self._succeeded(period.expiration if keys else 0)
        return CHECK

    async def _failed(self, error: str) -> float:
        if error != self._last_error:
            self._log.warning("%s, next: %s", error, shown(self._now() + RETRY))
        self._last_error = error
        found = await in_thread(check, self._zone.signed_file, self._zone.file, (), self._now())
        await self._publish(State(failed=True, expiration=found.expiration).data(self._zone))
        return RETRY

    async def _succeeded(self, expiration: int) -> None:
        self._last_error = ""
        await self._publish(State(failed=False, expiration=expiration).data(self._zone))
