"""Obtains and renews one certificate from an ACME server, in the control process.

Rules:

1. A certificate is replaced only by a new one that was checked (`acme.certificate`).
2. After a failure, the next attempt waits for the next of DELAYS. A log line states the reason.
3. Only one process at a time obtains a certificate (`Storage.lock`).
4. The storage must accept files before anything is ordered, so that a restart does not order again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import msgspec

from svcdns.log_line import LogLine
from svcdns.plugins.tls.acme.account_key import AccountKey
from svcdns.plugins.tls.acme.certificate import lifetime
from svcdns.plugins.tls.acme.client import AcmeClient
from svcdns.plugins.tls.acme.data import encode_challenges, served, stored
from svcdns.plugins.tls.acme.errors import AcmeError
from svcdns.plugins.tls.acme.http import AcmeHttp
from svcdns.plugins.tls.acme.storage import Storage, StorageError
from svcdns.plugins.tls.options import Acme
from svcdns.plugins.tls.served import day
from svcdns.process.blocking_io import in_thread, start
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.material import Material, expiry

Publish = Callable[[Mapping[str, bytes]], Awaitable[None]]
"""Sends changed data to the workers."""

DELAYS: Final = (60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0, 21600.0)
"""The seconds from a failure to the next attempt, by the number of failures in succession."""
VARIATION: Final = 0.2
"""Each delay varies at random by up to this part of the delay."""
ATTEMPT: Final = 900.0
"""The most seconds of an attempt."""
REMAINING: Final = 1 / 3
"""The part of its lifetime that a certificate still has when it is renewed."""
JITTER: Final = 1 / 30
"""The renewal is earlier by a random part of the lifetime, at most by this part."""
LEAST_PAUSE: Final = 10.0
"""The least seconds from one attempt to the next."""
STEP: Final = 10.0
"""The most seconds until the clock is read again, and the data are sent again if a reload has replaced them."""
SETTLE: Final = 1.0
"""The seconds until all workers answer with new challenge values."""


class LockedError(AcmeError):
    """Raised if another process obtains the same certificate."""


class Manager:
    """Keeps one certificate valid."""

    def __init__(
        self,
        acme: Acme,
        publish: Publish,
        *,
        connect: Callable[[Acme], Awaitable[AcmeHttp]] = AcmeHttp.open,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
        random: Random | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        """`connect` returns a client for HTTP. `now` returns the time in Unix seconds."""
        self._acme, self._publish, self._connect = acme, publish, connect
        self._sleep, self._now, self._random = sleep, now, random or Random()
        self._log = log or plugin_logger("tls")
        self._storage = Storage(acme)
        self._material = Material()
        self._challenges: Mapping[str, Sequence[str]] = {}
        self._failures = 0
        self._next = 0.0
        self._is_saved = True

    async def run(self) -> None:
        """Obtains and renews the certificate until the task is cancelled."""
        self._use(await in_thread(stored, self._acme))
        while True:
            await self._send()
            while self._now() < self._next:
                await self._sleep(min(STEP, self._next - self._now()))
                await self._save()
                await self._send()
            await self._attempt()

    def _use(self, material: Material) -> None:
        """Sets the certificate, and the time of its renewal."""
        self._material, self._failures = material, 0
        if material.certificates:
            life = lifetime(material.certificates)
            before = life * REMAINING + self._random.uniform(0, life * JITTER)
            self._next = expiry(material.certificates) - before

    async def _attempt(self) -> None:
        reason, least = "", 0.0
        try:
            async with asyncio.timeout(ATTEMPT):
                await self._obtain()
        except LockedError:
            self._next = self._now() + LEAST_PAUSE
            return
        except AcmeError as error:
            reason, least = str(error), error.retry_after
        except StorageError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"not done within {ATTEMPT:g} s"
        except Exception as error:  # noqa: BLE001 - an unknown error must not repeat orders without a delay
            reason = f"unexpected {type(error).__name__}"
        self._challenges = {}
        self._next = max(self._next, self._now() + LEAST_PAUSE)
        if reason:
            self._failed(reason, least)

    def _failed(self, reason: str, least: float) -> None:
        delay = DELAYS[min(self._failures, len(DELAYS) - 1)] * self._random.uniform(1 - VARIATION, 1 + VARIATION)
        delay = max(delay, least)
        self._failures += 1
        self._next = self._now() + delay
        until = _expiry(self._material)
        self._log.error(
            LogLine(
                "acme: no new certificate",
                domains=self._acme.text, error=reason, valid_until=day(until) if until else None,
                retry_seconds=round(delay),
            )
        )  # fmt: skip

    async def _obtain(self) -> None:
        async with self._locked():
            newer = await in_thread(stored, self._acme)
            if _expiry(newer) > _expiry(self._material):
                self._log.info(LogLine("acme: another process has renewed the certificate", domains=self._acme.text))
                self._use(newer)
                if self._next > self._now():
                    return
            key = await self._account_key()
            http = await self._connect(self._acme)
            self._log.info(LogLine("acme: requesting a certificate", domains=self._acme.text, ca=self._acme.ca))
            try:
                client = AcmeClient(http, key, self._acme.ca, self._sleep)
                material = await client.obtain(self._acme.domains, self._acme.email, self._present)
            finally:
                await http.close()
            self._use(material)
            self._is_saved = False
            await self._save()
        until = day(expiry(material.certificates))
        self._log.info(LogLine("acme: new certificate", domains=self._acme.text, valid_until=until))

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        locking = start(self._storage.lock)
        try:
            fd = await asyncio.shield(locking)
        except asyncio.CancelledError:
            locking.add_done_callback(_close)
            raise
        if fd is None:
            raise LockedError("another process obtains the certificate")
        try:
            yield
        finally:
            os.close(fd)

    async def _account_key(self) -> AccountKey:
        pem = await in_thread(self._storage.account_key)
        if pem:
            return AccountKey.from_pem(pem)
        key = AccountKey.generate()
        await in_thread(self._storage.save_account_key, key.pem)
        return key

    async def _present(self, values: Mapping[str, Sequence[str]]) -> None:
        self._challenges = values
        await self._send()
        await self._sleep(SETTLE)

    async def _save(self) -> None:
        """Writes a new certificate to the storage, unless that was done. After an error, the next call tries again."""
        if self._is_saved:
            return
        try:
            await in_thread(self._storage.save, self._material)
            self._is_saved = True
        except StorageError as error:
            self._log.error(
                LogLine("acme: the new certificate is in use, but not saved", domains=self._acme.text, error=error)
            )

    async def _send(self) -> None:
        data = served(self._acme, self._material, self._failures, self._next)
        await self._publish(
            {
                self._acme.data_key: msgspec.msgpack.encode(data),
                self._acme.challenges_key: encode_challenges(self._challenges),
            }
        )


def _expiry(material: Material) -> float:
    return expiry(material.certificates) if material.certificates else 0.0


def _close(locking: asyncio.Future[int | None]) -> None:
    if not locking.cancelled() and locking.exception() is None and (fd := locking.result()) is not None:
        os.close(fd)
