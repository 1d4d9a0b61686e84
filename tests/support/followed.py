"""The API source at work against the API double, in virtual time, and what it has told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.watch_options import WatchOptions
from svcdns.sources.api.client import TimeLimits
from svcdns.sources.api.source import ApiServerSource
from tests.support.api_double import SERVICES, ApiDouble


class VirtualTime:
    """Waiting takes none; the clock goes on by what was waited for."""

    def __init__(self) -> None:
        """At some moment."""
        self.now = 1000.0
        self.waits: list[float] = []

    def clock(self) -> float:
        """The time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Notes the wait."""
        self.waits.append(round(seconds, 3))
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


class Observed:
    """Requests as the metrics see them."""

    def __init__(self, time: VirtualTime) -> None:
        """None yet."""
        self.codes: list[str] = []
        self.moments: list[float] = []
        """When the requests were through; watches count when they open or fail."""
        self.watches = 0
        """How many were opened."""
        self.octets: dict[str, int] = {}
        self._time = time

    def request(self, verb: str, host: str, code: str, method: str, seconds: float | None) -> None:
        """One request."""
        self.codes.append(code)
        self.moments.append(self._time.now)
        self.watches += seconds is None and code == "200"

    def received(self, resource: str, octets: int) -> None:
        """Octets of a body."""
        self.octets[resource] = self.octets.get(resource, 0) + octets


class Followed:
    """A source at work, and what it has told."""

    def __init__(self, api: ApiDouble, caplog: pytest.LogCaptureFixture, limits: TimeLimits | None = None, **options: object) -> None:
        """In virtual time, but for `limits`."""
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
        """What was waited for, in seconds."""
        return self.time.waits

    async def follow(self) -> None:
        """Takes changes for ever."""
        async for change in self.source.changes():
            self.changes.append(change)

    async def until(self, true: Callable[[], object]) -> None:
        """Waits for something to become true."""
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.001)

    async def until_listed(self, kind: Kind = Kind.SERVICE, times: int = 1) -> None:
        """Waits for a list to be through."""
        await self.until(lambda: self.changes.count(Complete(kind)) >= times)

    def told(self, kind: Kind = Kind.SERVICE) -> list[str]:
        """What was told of a kind, in short: `begin`, `complete`, `+name`, `-name`."""
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
        """The log."""
        return [record.getMessage() for record in self._caplog.records if record.name == "api-test"]


@contextlib.asynccontextmanager
async def following(followed: Followed) -> AsyncIterator[Followed]:
    """Follows in the background."""
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
    """A source whose kinds are all listed and watched."""
    async with following(Followed(api, caplog, limits, **options)) as followed:
        await followed.until_listed()
        await followed.until(lambda: followed.observed.watches == len(followed.source.kinds))
        await followed.until(lambda: api.watching(SERVICES))
        yield followed
