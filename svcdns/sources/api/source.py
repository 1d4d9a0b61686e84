"""A source of changes that lists and watches the resources of an API server.

Each kind of object has one `Reflector`, which waits until its changes are applied. Changes of one kind keep their
order.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Container
from typing import TYPE_CHECKING

from svcdns.cluster.changes import Kind
from svcdns.cluster.watch_options import SourceError, WatchOptions
from svcdns.eventloop.clock import Clock, monotonic
from svcdns.sources.api.credentials import Credentials
from svcdns.sources.api.resources import watched
from svcdns.sources.api.retry import Jitter, SharedRetry, Sleep
from svcdns.sources.api.staleness import Freshness
from svcdns.sources.change_source import Apply
from svcdns.sources.label_selectors import check_label_selector
from svcdns.sources.snapshot_file import Origin

if TYPE_CHECKING:
    from svcdns.sources.api.client import RequestObserver, TimeLimits


class ApiServerSource:
    """Lists and watches the cluster that `options` describe. Implements ChangeSource."""

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
        only: Container[Kind] = tuple(Kind),
    ) -> None:
        """Watches only the kinds of objects in `only`."""
        self._options = options
        self._log = log
        self._observe = observe
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._limits = limits
        self._resources = tuple(resource for resource in watched(options) if resource.kind in only)
        self._credentials = Credentials(options, clock=clock, log=log)
        self._freshness = Freshness(self.kinds, clock)
        self._retry = SharedRetry(log, sleep, clock=clock, jitter=jitter)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Returns the kinds of objects that the source reports, such as Service and EndpointSlice."""
        return tuple(resource.kind for resource in self._resources)

    @property
    def is_unreachable(self) -> bool:
        """Returns True if the last request to the API server got no response."""
        return self._retry.is_unreachable

    def ages(self) -> dict[Kind, float]:
        """Returns the seconds since the API server last confirmed the objects, by kind of object.

        Before the first list, the time counts from the creation of the source.
        """
        return self._freshness.ages()

    def assume(self, age: float) -> None:
        """Sets the age, in seconds, of objects that come from a snapshot. Call it before the first list request.

        The results of `ages` begin with this age.
        """
        self._freshness.assume(age)

    async def configure(self) -> None:
        """Checks the selectors and reads the configuration, without a request to the API server. Raises SourceError."""
        for option, text in (("labels", self._options.labels), ("namespace_labels", self._options.namespace_labels)):
            try:
                check_label_selector(text)
            except ValueError as error:
                raise SourceError(f"{option}: {error}") from error
        await self._credentials.access()

    async def origin(self) -> Origin:
        """Returns the identity of the cluster, without a request to the API server. Raises SourceError."""
        return (await self._credentials.access()).origin

    async def follow(self, apply: Apply) -> None:
        """Passes every change to `apply`, beginning with a full list of each kind of object.

        Ends only when cancelled.
        """
        # Imported here, because a start from a snapshot serves DNS first, and an HTTP client takes longer to import.
        from svcdns.sources.api.client import ApiClient, TimeLimits
        from svcdns.sources.api.reflector import Reflector

        clients = [
            ApiClient(
                resource,
                self._credentials,
                clock=self._clock,
                observe=self._observe,
                limits=self._limits or TimeLimits(),
            )
            for resource in self._resources
        ]
        watches = [
            asyncio.create_task(
                Reflector(
                    resource,
                    client,
                    apply,
                    retry=self._retry,
                    freshness=self._freshness,
                    log=self._log,
                    clock=self._clock,
                    jitter=self._jitter,
                ).run()
            )
            for resource, client in zip(self._resources, clients, strict=True)
        ]
        try:
            await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            for watch in watches:
                if watch.done():
                    watch.result()
            raise RuntimeError("a watch ended by itself")
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            for client in clients:
                await client.close()
            await self._credentials.close()
