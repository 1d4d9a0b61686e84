"""When a zone is checked and transferred (docs/behaviour/plugins.md#secondary)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from svcdns.plugins.secondary import refresher as module
from svcdns.plugins.secondary.refresher import REFRESH_JITTER, RETRY_JITTER, Timers, ZoneRefresher, is_newer
from svcdns.upstream.query import Address, ExchangeError
from svcdns.wire import names
from svcdns.wire.record import Record
from tests.support import world
from tests.support.world import Clock

ZONE = names.from_text("example.org.")
FIRST, SECOND = ("192.0.2.1", 53), ("192.0.2.2", 53)


def soa(serial: int) -> Record:
    """Returns an SOA record with the timers 100, 30 and 70 seconds."""
    return world.records(f"example.org. 60 IN SOA ns.example.org. root.example.org. {serial} 100 30 70 5")[0]


class Driven(ZoneRefresher):
    """A refresher whose waits end when the test says so. `serials` has the version of each primary; None fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both primary servers have version 1."""
        self.clock, self.events = Clock(), list[str]()
        self.waits: asyncio.Queue[tuple[float, float]] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.serials: dict[Address, int | None] = {FIRST: 1, SECOND: 1}

        async def transferred(records: list[Record]) -> None:
            self.events.append(f"transferred {Timers.of(records[0]).serial}")

        async def fetch_serial(_zone: bytes, server: Address) -> int:
            return self.version(server)

        async def fetch_zone(_zone: bytes, server: Address, _pause: Callable[[], object]) -> list[Record]:
            return [soa(self.version(server))]

        async def sleep(seconds: float) -> None:
            await self.waits.put((seconds, 0.0))
            await self.go_on.wait()
            self.go_on.clear()

        async def wait(seconds: float, jitter: float) -> None:
            await self.waits.put((seconds, jitter))
            await self.go_on.wait()
            self.go_on.clear()

        super().__init__(
            ZONE, (FIRST, SECOND), self.clock, logging.getLogger("svcdns"), transferred,
            lambda: self.events.append("expired"), lambda: None,
        )  # fmt: skip
        monkeypatch.setattr(module, "fetch_serial", fetch_serial)
        monkeypatch.setattr(module, "fetch_zone", fetch_zone)
        monkeypatch.setattr(module.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
        monkeypatch.setattr(self, "_wait", wait)

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
    task = asyncio.ensure_future(driven.run(None))
    assert await asyncio.wait_for(driven.waits.get(), 10) == (100.0, REFRESH_JITTER)
    assert await driven.turn(100) == (100.0, REFRESH_JITTER)
    assert driven.events == ["transferred 1"], "the serial is the same"
    driven.serials[FIRST] = 2
    assert await driven.turn(100) == (100.0, REFRESH_JITTER)
    assert driven.events == ["transferred 1", "transferred 2"]
    driven.serials = {FIRST: None, SECOND: 3}
    assert await driven.turn(10) == (100.0, REFRESH_JITTER)
    assert driven.events[2:] == ["transferred 3"], "the second primary server answers"
    driven.serials[SECOND] = None
    assert await driven.turn(20) == (30.0, RETRY_JITTER)
    assert await driven.turn(30) == (20.0, RETRY_JITTER), "not later than the zone expires"
    assert await driven.turn(20) == (30.0, RETRY_JITTER)
    assert await driven.turn(30) == (30.0, RETRY_JITTER)
    assert driven.events[3:] == ["expired"]
    driven.serials[SECOND] = 3
    assert await driven.turn(30) == (100.0, REFRESH_JITTER)
    assert driven.events[4:] == ["transferred 3"], "the same version again, because the zone had expired"
    task.cancel()


async def test_the_first_transfer(driven: Driven) -> None:
    """It is tried again after 250 ms, then after twice as long, up to 10 s, as in CoreDNS."""
    driven.serials = {FIRST: None, SECOND: None}
    task = asyncio.ensure_future(driven.run(None))
    waits = [await asyncio.wait_for(driven.waits.get(), 10)] + [await driven.turn() for _ in range(7)]
    assert [seconds for seconds, _ in waits] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    driven.serials[SECOND] = 5
    assert await driven.turn() == (100.0, REFRESH_JITTER)
    assert driven.events == ["transferred 5"]
    task.cancel()


async def test_a_notification_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a NOTIFY the serial is checked at once."""
    driven = Driven(monkeypatch)
    monkeypatch.delattr(driven, "_wait")
    checks: asyncio.Queue[object] = asyncio.Queue()

    async def check(timers: Timers | None) -> Timers | None:
        await checks.put(timers)
        return timers

    monkeypatch.setattr(driven, "_check", check)
    timers = Timers(1, 1000.0, 1000.0, 1000.0)
    task = asyncio.ensure_future(driven.run(timers))
    assert await asyncio.wait_for(checks.get(), 10) == timers, "content of an earlier process is checked first"
    driven.notify()
    assert await asyncio.wait_for(checks.get(), 10) == timers
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
