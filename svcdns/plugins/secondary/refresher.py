"""Keeps one zone up to date, in one worker: transfers it, and checks its serial by the timers of its SOA record.

Rules (RFC 1034 §4.3.5, RFC 1996 §3, docs/behaviour/plugins.md#secondary):

1. The first transfer is tried again after FIRST_RETRY seconds, then after twice as long, up to LAST_RETRY.
2. The serial is checked after the refresh time, or after a NOTIFY. After a failure it is checked again after the retry
   time. Both have a random addition, so that not all secondaries ask together.
3. If no check has succeeded for the expire time, the zone has expired. The checks go on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from svcdns.eventloop.clock import Clock
from svcdns.plugins.secondary.catalog import CatalogError
from svcdns.telemetry.logging import plugin_logger
from svcdns.upstream.query import Address, ExchangeError, address_text
from svcdns.upstream.zone_client import fetch_serial, fetch_zone
from svcdns.wire import names
from svcdns.wire.record import Record

FIRST_RETRY: Final = 0.25
LAST_RETRY: Final = 10.0
REFRESH_JITTER: Final = 5.0
RETRY_JITTER: Final = 2.0
LEAST: Final = 1
"""The least value of each timer in seconds."""


class Timers(NamedTuple):
    """The serial and the timers of an SOA record, in seconds."""

    serial: int
    refresh: float
    retry: float
    expire: float

    @classmethod
    def of(cls, soa: Record) -> Timers:
        """Returns the numbers in an SOA record (RFC 1035 §3.3.13)."""
        numbers = [
            int.from_bytes(soa.rdata[at : at + 4] if at + 4 else soa.rdata[at:], "big") for at in (-20, -16, -12, -8)
        ]
        return cls(numbers[0], *(float(max(LEAST, number)) for number in numbers[1:]))


def is_newer(serial: int, than: int) -> bool:
    """Returns True if a serial is greater than another one (RFC 1982 §3.2)."""
    return 0 < (serial - than) % (1 << 32) < 1 << 31


class ZoneRefresher:
    """Keeps one zone up to date."""

    def __init__(
        self,
        zone: bytes,
        primaries: Sequence[Address],
        clock: Clock,
        log: logging.Logger,
        transferred: Callable[[list[Record]], Awaitable[None]],
        expired: Callable[[], None],
        pause: Callable[[], object],
    ) -> None:
        """`transferred` is awaited with the records of each version. `expired` is called when the zone has expired.

        `transferred` raises CatalogError for a version that cannot be used.

        `clock` is the clock of the timers. `pause` is called between two messages of a transfer.
        """
        self.zone, self._primaries, self._clock, self._log = zone, primaries, clock, log
        self._transferred, self._expired, self._pause = transferred, expired, pause
        self._of_file = plugin_logger("file")
        """Some of CoreDNS's lines about secondary zones have the name of the plugin *file*."""
        self._notified = asyncio.Event()
        self._text = names.to_text(zone)

    def notify(self) -> None:
        """Has the serial checked soon."""
        self._notified.set()

    async def run(self, timers: Timers | None) -> None:
        """Runs until it is cancelled. `timers` are those of the zone's present content, or None without content."""
        if timers is None:
            timers = await self._first_transfer()
        else:
            self._notified.set()  # the content may be older than this process
        valid_until, wait, jitter, is_expired = self._clock() + timers.expire, timers.refresh, REFRESH_JITTER, False
        while True:
            await self._wait(wait, jitter)
            found = await self._check(None if is_expired else timers)
            if found is not None:
                timers, is_expired = found, False
                valid_until, wait, jitter = self._clock() + timers.expire, timers.refresh, REFRESH_JITTER
                continue
            left = valid_until - self._clock()
            if left <= 0 and not is_expired:
                is_expired = True
                self._log.warning("zone %s has expired", self._text)
                self._expired()
            wait, jitter = timers.retry if is_expired else min(timers.retry, left), RETRY_JITTER

    async def _wait(self, seconds: float, jitter: float) -> None:
        try:
            async with asyncio.timeout(seconds + random.uniform(0, jitter)):
                await self._notified.wait()
        except TimeoutError:
            return
        finally:
            self._notified.clear()

    async def _first_transfer(self) -> Timers:
        delay = FIRST_RETRY
        while (found := await self._transfer()) is None:
            self._log.warning("All '%s' masters failed to transfer, retrying in %gs", self._text, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY)
        return found

    async def _check(self, timers: Timers | None) -> Timers | None:
        """Transfers the zone if a primary server has a newer version. Returns the timers, or None after a failure."""
        if timers is None:
            return await self._transfer()
        error: ExchangeError | None = None
        for primary in self._primaries:
            try:
                serial = await fetch_serial(self.zone, primary)
            except ExchangeError as raised:
                error = raised
                continue
            return await self._transfer() if is_newer(serial, timers.serial) else timers
        self._of_file.warning("Failed refresh check of zone %s: %s", self._text, error)
        return None

    async def _transfer(self) -> Timers | None:
        for primary in self._primaries:
            try:
                records = await fetch_zone(self.zone, primary, self._pause)
                await self._transferred(records)
            except (ExchangeError, CatalogError) as error:
                self._log.error('Failed to transfer `%s\' from "%s": %s', self._text, address_text(primary), error)
                continue
            self._of_file.info("Transferred: %s from %s", self._text, address_text(primary))
            return Timers.of(records[0])
        return None
