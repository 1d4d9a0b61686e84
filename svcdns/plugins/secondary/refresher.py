"""Keeps one zone up to date, in one worker: transfers it, and checks its serial by the timers of its SOA record.

Rules (RFC 1034 §4.3.5, RFC 1996 §3, docs/behaviour/plugins.md#secondary):

1. The first transfer is tried again after FIRST_RETRY seconds, then after twice as long, up to LAST_RETRY.
2. The serial is checked after the refresh time, or after a NOTIFY, at most every NOTIFY_PAUSE seconds. After a failure
   it is checked again after the retry time. Both times get a random addition, to spread the checks of many servers.
3. If no check has succeeded for the expire time, the zone has expired. The checks go on.
4. A newer version is transferred incrementally (IXFR, RFC 1995). If that fails, the whole zone is transferred (AXFR).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from svcdns.eventloop.clock import Clock
from svcdns.log_line import LogLine
from svcdns.plugins.secondary.catalog import CatalogError
from svcdns.plugins.secondary.options import Ixfr, Rule
from svcdns.telemetry.logging import plugin_logger
from svcdns.upstream.query import Address, ExchangeError, address_text
from svcdns.upstream.zone_client import UnreachableError, fetch_over_udp, fetch_serial, fetch_zone
from svcdns.wire import names
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import ZoneTransfer, is_newer, serial_of
from svcdns.zones.differences import DifferenceError

FIRST_RETRY: Final = 0.25
LAST_RETRY: Final = 10.0
REFRESH_JITTER: Final = 5.0
RETRY_JITTER: Final = 2.0
NOTIFY_PAUSE: Final = 0.25
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


class ZoneCopy(Protocol):
    """The content of the zone at this server."""

    @property
    def soa(self) -> Record | None:
        """Returns the SOA record of the present version; None without content."""
        ...

    async def take(self, transfer: ZoneTransfer) -> None:
        """Serves the version of a transfer. Raises CatalogError and DifferenceError for a version that is not used."""
        ...

    def checked(self) -> None:
        """Called when a primary server has confirmed that the present version is its own."""
        ...

    def expire(self) -> None:
        """Stops serving the zone."""
        ...


class ZoneRefresher:
    """Keeps one zone up to date."""

    def __init__(
        self,
        zone: bytes,
        rule: Rule,
        clock: Clock,
        log: logging.Logger,
        copy: ZoneCopy,
        pause: Callable[[], object],
    ) -> None:
        """`rule` has the primary servers. `clock` is the clock of the timers.

        `pause` is called between two messages of a transfer.
        """
        self.zone, self._primaries, self._ixfr, self._clock = zone, rule.primaries, rule.ixfr, clock
        self._log, self._copy, self._pause = log, copy, pause
        self._file_log = plugin_logger("file")
        """Some of CoreDNS's lines about secondary zones have the name of the plugin *file*."""
        self._notified = asyncio.Event()
        self._text = names.to_text(zone)

    def notify(self) -> None:
        """Has the serial checked soon."""
        self._notified.set()

    async def run(self, age: float = 0.0) -> None:
        """Keeps the zone up to date until the task is cancelled.

        `age` has the seconds since a primary server confirmed the present content.
        """
        soa = self._copy.soa
        if soa is None:
            timers, age = await self._first_transfer(), 0.0
        else:
            timers = Timers.of(soa)
            self._notified.set()  # the content may be older than this process
        valid_until, is_expired = self._clock() + timers.expire - age, False
        wait, jitter = timers.refresh, REFRESH_JITTER
        while True:
            await self._wait(wait, jitter)
            found = await self._check(None if is_expired else timers)
            if found is not None:
                timers, is_expired = found, False
                self._copy.checked()
                valid_until, wait, jitter = self._clock() + timers.expire, timers.refresh, REFRESH_JITTER
                continue
            left = valid_until - self._clock()
            if left <= 0 and not is_expired:
                is_expired = True
                self._log.warning(LogLine("a zone has expired", zone=self._text))
                self._copy.expire()
            wait, jitter = timers.retry if is_expired else min(timers.retry, left), RETRY_JITTER

    async def _wait(self, seconds: float, jitter: float) -> None:
        try:
            async with asyncio.timeout(seconds + random.uniform(0, jitter)):
                await self._notified.wait()
                await asyncio.sleep(NOTIFY_PAUSE)  # the sender's address may be forged
        except TimeoutError:
            return
        finally:
            self._notified.clear()

    async def _first_transfer(self) -> Timers:
        delay = FIRST_RETRY
        while (found := await self._transfer(None)) is None:
            self._log.warning("All '%s' masters failed to transfer, retrying in %gs", self._text, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY)
        return found

    async def _check(self, timers: Timers | None) -> Timers | None:
        """Transfers the zone if a primary server has a newer version. Returns the timers, or None after a failure."""
        if timers is None:
            return await self._transfer(None)
        error: ExchangeError | None = None
        for primary in self._primaries:
            try:
                serial = await fetch_serial(self.zone, primary)
            except ExchangeError as raised:
                error = raised
                continue
            return await self._transfer(timers) if is_newer(serial, timers.serial) else timers
        self._file_log.warning("Failed refresh check of zone %s: %s", self._text, error)
        return None

    async def _transfer(self, timers: Timers | None) -> Timers | None:
        """Transfers the zone. `timers` are those of the present version; None if it is not usable."""
        for primary in self._primaries:
            try:
                found = await self._from(primary, timers)
            except (ExchangeError, CatalogError) as error:
                self._log.error('Failed to transfer `%s\' from "%s": %s', self._text, address_text(primary), error)
                continue
            self._file_log.info("Transferred: %s from %s", self._text, address_text(primary))
            return found
        return None

    async def _from(self, primary: Address, timers: Timers | None) -> Timers:
        known = self._copy.soa if timers is not None and self._ixfr is not Ixfr.OFF else None
        if known is not None:
            try:
                return await self._take(await self._changes(primary, known), primary, timers)
            except UnreachableError:
                raise
            except (ExchangeError, DifferenceError) as error:
                self._log.info(LogLine("transferring the whole zone", zone=self._text, error=error))
        return await self._take(await fetch_zone(self.zone, primary, self._pause), primary, timers)

    async def _changes(self, primary: Address, known: Record) -> ZoneTransfer:
        if self._ixfr is Ixfr.UDP:
            with contextlib.suppress(ExchangeError):
                found = await fetch_over_udp(self.zone, primary, known)
                if found is not None:
                    return found
        return await fetch_zone(self.zone, primary, self._pause, known)

    async def _take(self, found: ZoneTransfer, primary: Address, timers: Timers | None) -> Timers:
        """Takes a transfer. Raises ExchangeError if its version is not newer than the present one."""
        serial = serial_of(found.soa)
        if timers is not None and not is_newer(serial, timers.serial):
            raise ExchangeError(f"{address_text(primary)}: serial {serial} is not newer than {timers.serial}")
        await self._copy.take(found)
        if found.records is None:
            self._log.info(LogLine("transferred differences", zone=self._text, serial=serial))
        return Timers.of(found.soa)
