"""A change source: the cluster as an API server tells it, by lists and watches.

It puts the parts together: what to watch (`resources`), how to get in (`credentials`), one `Reflector` a kind, and one bounded queue
that merges their changes. Changes of one kind keep their order; kinds are independent of each other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from svcdns.cluster.changes import Change, Kind
from svcdns.cluster.watch_options import SourceError, WatchOptions
from svcdns.eventloop.clock import Clock, monotonic
from svcdns.sources.api.credentials import Credentials
from svcdns.sources.api.resources import watched
from svcdns.sources.api.retry import Jitter, Outage, Sleep
from svcdns.sources.api.staleness import Freshness
from svcdns.sources.label_selectors import check_label_selector
from svcdns.sources.snapshot_file import Origin

if TYPE_CHECKING:
    from svcdns.sources.api.client import RequestObserver, TimeLimits

WAITING_BATCHES = 1
"""Pages or chunks that may wait for the reader before the watches themselves wait."""


class ApiServerSource:
    """Lists and watches what `options` name. Implements ChangeSource."""

    def __init__(
        self,
        options: WatchOptions,
        *,
        log: logging.Logger,
        observe: RequestObserver,
        clock: Clock = monotonic,
        jitter: Jitter = random.random,
        sleep: Sleep = asyncio.sleep,
        limits: TimeLimits | None = None,
    ) -> None:
        self._options = options
        self._log = log
        self._observe = observe
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._limits = limits
        self._resources = watched(options)
        self._credentials = Credentials(options, clock=clock, log=log)
        self._freshness = Freshness(self.kinds, clock)
        self._outage = Outage(log, sleep, clock=clock, jitter=jitter)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds whose lists this source will complete."""
        return tuple(resource.kind for resource in self._resources)

    @property
    def is_unreachable(self) -> bool:
        """Whether nobody answers where the API server should be."""
        return self._outage.is_unreachable

    def ages(self) -> dict[Kind, float]:
        """Seconds since the API server last confirmed what is known of each kind; before the first list, since the source was made."""
        return self._freshness.ages()

    def assume(self, age: float) -> None:
        """What is known before the first lists comes from elsewhere and is `age` seconds old."""
        self._freshness.assume(age)

    async def configure(self) -> None:
        """Check the selectors and read the configuration. Raises SourceError; does not need the API server to be there."""
        for option, text in (("labels", self._options.labels), ("namespace_labels", self._options.namespace_labels)):
            try:
                check_label_selector(text)
            except ValueError as error:
                raise SourceError(f"{option}: {error}") from error
        await self._credentials.access()

    async def origin(self) -> Origin:
        """Which cluster this is, as far as the configuration tells. Raises SourceError."""
        return (await self._credentials.access()).origin

    async def changes(self) -> AsyncIterator[Change]:
        """Every change, beginning with a full list of each kind; ends only when cancelled or closed."""
        # An HTTP client takes longer to import than a snapshot takes to load: a start serves from that first.
        from svcdns.sources.api.client import ApiClient, TimeLimits
        from svcdns.sources.api.reflector import Reflector

        batches: asyncio.Queue[list[Change]] = asyncio.Queue(WAITING_BATCHES)
        clients = [
            ApiClient(resource, self._credentials, clock=self._clock, observe=self._observe, limits=self._limits or TimeLimits())
            for resource in self._resources
        ]
        watches = [
            asyncio.create_task(
                Reflector(
                    resource,
                    client,
                    batches.put,
                    outage=self._outage,
                    freshness=self._freshness,
                    log=self._log,
                    clock=self._clock,
                    jitter=self._jitter,
                ).run()
            )
            for resource, client in zip(self._resources, clients, strict=True)
        ]
        try:
            while True:
                for change in await _next(batches, watches):
                    yield change
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            for client in clients:
                await client.close()
            await self._credentials.close()


async def _next(batches: asyncio.Queue[list[Change]], watches: list[asyncio.Task[None]]) -> list[Change]:
    """The next batch. A watch never ends by itself, so one that did has failed: its exception is raised here."""
    if not batches.empty():
        return batches.get_nowait()
    getting = asyncio.ensure_future(batches.get())
    try:
        await asyncio.wait([getting, *watches], return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        for watch in watches:
            if watch.done():
                watch.result()
        raise RuntimeError("a watch ended by itself")
    finally:
        getting.cancel()
