"""When a zone is checked and transferred (docs/behaviour/plugins.md#secondary)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from svcdns.plugins.secondary import refresher as module
from svcdns.plugins.secondary.options import Ixfr, Rule
from svcdns.plugins.secondary.refresher import NOTIFY_PAUSE, REFRESH_JITTER, RETRY_JITTER, Timers, ZoneRefresher
from svcdns.upstream.query import Address, ExchangeError
from svcdns.wire import names
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import ZoneTransfer, is_newer
from svcdns.zones.differences import DifferenceError
from tests.support import world
from tests.support.world import Clock

ZONE = names.from_text("example.org.")
FIRST, SECOND = ("192.0.2.1", 53), ("192.0.2.2", 53)


def soa(serial: int) -> Record:
    """Returns an SOA record with the timers 100, 30 and 70 seconds."""
    return world.records(f"example.org. 60 IN SOA ns.example.org. root.example.org. {serial} 100 30 70 5")[0]


class Driven(ZoneRefresher):
    """A refresher whose waits end when the test says so. `serials` has the version of each primary; None fails.

    The refresher is its own `ZoneCopy`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ixfr: Ixfr = Ixfr.TCP) -> None:
        """Both primary servers have version 1."""
        self.clock, self.events = Clock(), list[str]()
        self.waits: asyncio.Queue[tuple[float, float]] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.serials: dict[Address, int | None] = {FIRST: 1, SECOND: 1}
        self.soa: Record | None = None
        self.refuses: list[str] = []
        """The kinds of transfers that fail."""

        async def fetch_serial(_zone: bytes, server: Address) -> int:
            return self.version(server)

        async def fetch_zone(
            _zone: bytes, server: Address, _pause: Callable[[], object], known: Record | None = None
        ) -> ZoneTransfer:
            return self.fetched("AXFR" if known is None else "IXFR", server)

        async def fetch_over_udp(_zone: bytes, server: Address, _known: Record) -> ZoneTransfer | None:
            return None if "UDP is short" in self.refuses else self.fetched("UDP", server)

        async def sleep(seconds: float) -> None:
            await self.waits.put((seconds, 0.0))
            await self.go_on.wait()
            self.go_on.clear()

        async def wait(seconds: float, jitter: float) -> None:
            await self.waits.put((seconds, jitter))
            await self.go_on.wait()
            self.go_on.clear()

        rule = Rule(("example.org.",), (FIRST, SECOND), ixfr=ixfr)
        super().__init__(ZONE, rule, self.clock, logging.getLogger("svcdns"), self, lambda: None)
        monkeypatch.setattr(module, "fetch_serial", fetch_serial)
        monkeypatch.setattr(module, "fetch_zone", fetch_zone)
        monkeypatch.setattr(module, "fetch_over_udp", fetch_over_udp)
        monkeypatch.setattr(module.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
        monkeypatch.setattr(self, "_wait", wait)

    def fetched(self, kind: str, server: Address) -> ZoneTransfer:
        """Returns a transfer of the primary's version."""
        if kind in self.refuses:
            self.events.append(f"{kind} fails")
            raise ExchangeError(f"{kind} fails")
        return ZoneTransfer(soa(self.version(server)), [] if kind == "AXFR" else None, [])

    async def take(self, transfer: ZoneTransfer) -> None:
        """Notes the version."""
        if transfer.records is None and "differences" in self.refuses:
            raise DifferenceError("no such record")
        self.soa = transfer.soa
        self.events.append(f"{'IXFR' if transfer.records is None else 'AXFR'} {Timers.of(transfer.soa).serial}")

    def checked(self) -> None:
        """Does nothing."""

    def expire(self) -> None:
        """Notes that the zone has expired."""
        self.events.append("expired")

    def version(self, server: Address) -> int:
        """Returns the serial of a primary server. Raises ExchangeError if it fails."""
        serial = self.serials[server]
        if serial is None:
            raise ExchangeError("it fails")
        return serial

    async def turn(self, seconds: float = 0.0) -> tuple[float, float]:
        """Ends the present wait after `seconds`, and returns the next wait and its jitter."""
        self.clock.turn(seconds)
        self.go_on.set()
        return await asyncio.wait_for(self.waits.get(), 10)


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> Driven:
    """Returns a refresher that the test drives."""
    return Driven(monkeypatch)


async def test_the_timers_of_the_soa_record(driven: Driven) -> None:
    """The zone is transferred if the serial has grown. After failures it expires, and comes back when it can."""
    task = asyncio.ensure_future(driven.run())
    assert await asyncio.wait_for(driven.waits.get(), 10) == (100.0, REFRESH_JITTER)
    assert await driven.turn(100) == (100.0, REFRESH_JITTER)
    assert driven.events == ["AXFR 1"], "the serial is the same"
    driven.serials[FIRST] = 2
    assert await driven.turn(100) == (100.0, REFRESH_JITTER)
    assert driven.events == ["AXFR 1", "IXFR 2"]
    driven.serials = {FIRST: None, SECOND: 3}
    assert await driven.turn(10) == (100.0, REFRESH_JITTER)
    assert driven.events[2:] == ["IXFR 3"], "the second primary server answers"
    driven.serials[SECOND] = None
    assert await driven.turn(20) == (30.0, RETRY_JITTER)
    assert await driven.turn(30) == (20.0, RETRY_JITTER), "not later than the zone expires"
    assert await driven.turn(20) == (30.0, RETRY_JITTER)
    assert await driven.turn(30) == (30.0, RETRY_JITTER)
    assert driven.events[3:] == ["expired"]
    driven.serials[SECOND] = 3
    assert await driven.turn(30) == (100.0, REFRESH_JITTER)
    assert driven.events[4:] == ["AXFR 3"], "the same version again, because the zone had expired"
    task.cancel()


async def test_the_first_transfer(driven: Driven) -> None:
    """It is tried again after 250 ms, then after twice as long, up to 10 s, as in CoreDNS."""
    driven.serials = {FIRST: None, SECOND: None}
    task = asyncio.ensure_future(driven.run())
    waits = [await asyncio.wait_for(driven.waits.get(), 10)] + [await driven.turn() for _ in range(7)]
    assert [seconds for seconds, _ in waits] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    driven.serials[SECOND] = 5
    assert await driven.turn() == (100.0, REFRESH_JITTER)
    assert driven.events == ["AXFR 5"]
    task.cancel()


async def test_a_notification_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a NOTIFY the serial is checked soon."""
    driven = Driven(monkeypatch)
    monkeypatch.delattr(driven, "_wait")
    checks: asyncio.Queue[object] = asyncio.Queue()

    async def check(timers: Timers | None) -> Timers | None:
        await checks.put(timers)
        return timers

    monkeypatch.setattr(driven, "_check", check)
    driven.soa = soa(1)
    timers = Timers.of(driven.soa)
    task = asyncio.ensure_future(driven.run())
    assert await asyncio.wait_for(driven.waits.get(), 10) == (NOTIFY_PAUSE, 0.0)
    driven.go_on.set()
    assert await asyncio.wait_for(checks.get(), 10) == timers, "content of an earlier process is checked first"
    driven.notify()
    assert await asyncio.wait_for(driven.waits.get(), 10) == (NOTIFY_PAUSE, 0.0)
    driven.notify()
    driven.go_on.set()
    assert await asyncio.wait_for(checks.get(), 10) == timers
    task.cancel()


@pytest.mark.parametrize(
    ("ixfr", "refuses", "expected"),
    [
        pytest.param(Ixfr.TCP, [], ["IXFR 2"], id="differences"),
        pytest.param(Ixfr.TCP, ["IXFR"], ["IXFR fails", "AXFR 2"], id="the primary server has no IXFR"),
        pytest.param(Ixfr.TCP, ["differences"], ["AXFR 2"], id="differences that do not fit"),
        pytest.param(Ixfr.OFF, [], ["AXFR 2"], id="off"),
        pytest.param(Ixfr.UDP, [], ["IXFR 2"], id="over UDP"),
        pytest.param(Ixfr.UDP, ["UDP"], ["UDP fails", "IXFR 2"], id="no reply over UDP"),
        pytest.param(
            Ixfr.UDP, ["UDP is short", "IXFR"], ["IXFR fails", "AXFR 2"], id="the differences do not fit into UDP"
        ),
    ],
)
async def test_kinds_of_transfers(
    monkeypatch: pytest.MonkeyPatch, ixfr: Ixfr, refuses: list[str], expected: list[str]
) -> None:
    """A newer version is transferred incrementally. If that fails, the whole zone is transferred."""
    driven = Driven(monkeypatch, ixfr)
    driven.soa, driven.refuses, driven.serials[FIRST] = soa(1), refuses, 2
    task = asyncio.ensure_future(driven.run())
    await asyncio.wait_for(driven.waits.get(), 10)
    await driven.turn()
    assert driven.events == expected
    task.cancel()


async def test_an_older_version_is_not_taken(driven: Driven) -> None:
    """The first primary server has a newer version, but only the second one, which is behind, transfers its zone."""
    driven.soa, driven.serials = soa(2), {FIRST: 3, SECOND: 1}

    def fetched(kind: str, server: Address) -> ZoneTransfer:
        if server == FIRST:
            raise ExchangeError("it fails")
        return ZoneTransfer(soa(1), [] if kind == "AXFR" else None, [])

    driven.fetched = fetched  # type: ignore[method-assign]
    task = asyncio.ensure_future(driven.run())
    await asyncio.wait_for(driven.waits.get(), 10)
    assert await driven.turn() == (30.0, RETRY_JITTER), "a failure"
    assert driven.events == []
    task.cancel()


async def test_content_of_an_earlier_start_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time before the start counts."""
    driven = Driven(monkeypatch)
    driven.soa, driven.serials = soa(1), {FIRST: None, SECOND: None}
    task = asyncio.ensure_future(driven.run(age=65.0))
    await asyncio.wait_for(driven.waits.get(), 10)
    assert await driven.turn() == (5.0, RETRY_JITTER)
    assert await driven.turn(5) == (30.0, RETRY_JITTER)
    assert driven.events == ["expired"]
    task.cancel()


@pytest.mark.parametrize(
    ("serial", "than", "expected"),
    [(2, 1, True), (1, 1, False), (1, 2, False), (0, 0xFFFFFFFF, True), (0x80000001, 1, False), (0x80000000, 1, True)],
)
def test_serials_wrap_around(serial: int, than: int, *, expected: bool) -> None:
    """Serials are compared as RFC 1982 requires."""
    assert is_newer(serial, than) is expected


def test_timers_are_at_least_a_second() -> None:
    """An SOA record with zeros must not lead to a query in each moment."""
    record = world.records("example.org. 60 IN SOA ns.example.org. root.example.org. 1 0 0 0 0")[0]
    assert Timers.of(record) == Timers(1, 1.0, 1.0, 1.0)
