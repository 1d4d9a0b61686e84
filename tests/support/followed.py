"""A source of changes that runs against the API double in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.watch_options import WatchOptions
from svcdns.sources.api.client import TimeLimits
from svcdns.sources.api.source import ApiServerSource
from tests.support.api_double import SERVICES, ApiDouble


class VirtualTime:
    """A virtual clock. A sleep moves it forward without waiting."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(round(seconds, 3))
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


class Observed:
    """Records requests to the API server."""

    def __init__(self, time: VirtualTime) -> None:
        self.codes: list[str] = []
        self.moments: list[float] = []
        """The moments at which requests ended; for watches when they opened or failed."""
        self.watches = 0
        """The number of watches that were opened."""
        self.octets: dict[str, int] = {}
        self._time = time

    def request(self, verb: str, host: str, code: str, method: str, seconds: float | None) -> None:
        self.codes.append(code)
        self.moments.append(self._time.now)
        self.watches += seconds is None and code == "200"

    def received(self, resource: str, octets: int) -> None:
        """Adds to the number of octets received for the resource."""
        self.octets[resource] = self.octets.get(resource, 0) + octets


class Followed:
    """A running API server source, and the changes that it has delivered."""

    def __init__(
        self, api: ApiDouble, caplog: pytest.LogCaptureFixture, limits: TimeLimits | None = None, **options: object
    ) -> None:
        """Creates the source with a virtual clock. `limits` are in real time."""
        caplog.set_level(logging.INFO)
        self.changes: list[Change] = []
        self.time = VirtualTime()
        self.observed = Observed(self.time)
        self._caplog = caplog
        self.source = ApiServerSource(
            WatchOptions(**({"endpoint": api.url} | options)),  # type: ignore[arg-type]
            log=logging.getLogger("api-test"),
            observe=self.observed,
            jitter=lambda: 0.0,
            clock=self.time.clock,
            sleep=self.time.sleep,
            limits=limits,
        )

    @property
    def waits(self) -> list[float]:
        """Returns the seconds of all sleeps."""
        return self.time.waits

    async def follow(self) -> None:
        """Collects changes until it is cancelled."""

        def apply(changes: Iterable[Change]) -> None:
            for change in changes:
                self.changes.append(change)

        await self.source.follow(apply)

    async def until(self, true: Callable[[], object]) -> None:
        """Waits until `true` returns something true."""
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.001)

    async def until_listed(self, kind: Kind = Kind.SERVICE, times: int = 1) -> None:
        """Waits until the kind has been listed `times` times."""
        await self.until(lambda: self.changes.count(Complete(kind)) >= times)

    def events(self, kind: Kind = Kind.SERVICE) -> list[str]:
        """Returns the changes of a kind in short: `begin`, `complete`, `+name`, `-name`."""
        out = []
        for change in self.changes:
            match change:
                case Begin(kind=one) | Complete(kind=one) if one is kind:
                    out.append(type(change).__name__.lower())
                case Put(object=item) if type(item).__name__ == kind:
                    out.append(f"+{item.name}")
                case Gone(kind=one, name=name) if one is kind:
                    out.append(f"-{name}")
        return out

    @property
    def lines(self) -> list[str]:
        """Returns the log lines of the source."""
        return [record.getMessage() for record in self._caplog.records if record.name == "api-test"]


@contextlib.asynccontextmanager
async def following(followed: Followed) -> AsyncIterator[Followed]:
    """Runs the source in the background."""
    task = asyncio.create_task(followed.follow())
    try:
        yield followed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def watching(
    api: ApiDouble, caplog: pytest.LogCaptureFixture, limits: TimeLimits | None = None, **options: object
) -> AsyncIterator[Followed]:
    """Runs a source, and waits until all its kinds are listed and watched."""
    async with following(Followed(api, caplog, limits, **options)) as followed:
        await followed.until_listed()
        await followed.until(lambda: followed.observed.watches == len(followed.source.kinds))
        await followed.until(lambda: api.watching(SERVICES))
        yield followed
