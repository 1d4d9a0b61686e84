"""Lists the objects of one kind, and then watches them from the resource version of the list.

Rules:

1. No object is removed before a new list is complete. A list is reported as `Begin`, a `Put` for each object, and
   `Complete`.
2. A watch that ends or becomes silent is continued from the last version. Only status 410 causes a new list.
3. A list begins with a page of one object. Pages of about PAGE_OCTETS follow.
4. A page that fails is requested again with the same continue token and a limit of one object. If the token has
   expired, the list starts again.
5. `SharedRetry` decides when a failed request is retried, but not before the time in Retry-After.
6. Each kind of error is logged once.

Source: Kubernetes API concepts, "Efficient detection of changes", "Watch bookmarks", "Retrieving large results sets in
chunks".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator
from functools import partial

import msgspec

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.errors import UNDECODABLE
from svcdns.eventloop.clock import Clock
from svcdns.log_line import LogLine
from svcdns.sources.api import decoding
from svcdns.sources.api.client import ApiClient, ApiError, ExpiredError, RefusedError, UnreachableError, refusal
from svcdns.sources.api.paging import LineSplitter, PageLimit, UnreadableError
from svcdns.sources.api.resources import Resource
from svcdns.sources.api.retry import Backoff, Jitter, SharedRetry
from svcdns.sources.api.staleness import Freshness
from svcdns.sources.change_source import Apply

LIVED = 1.0
"""A watch that lasts so many seconds counts as successful, even without an event."""

WATCH_TIME = 300
"""Seconds after which the server ends a watch, multiplied by a random number from 1 to 2."""

UNKNOWN_VERSION = (400, 422)
"""Status codes for a resource version that the server does not know, for example after a restore of etcd."""


class FruitlessError(ApiError):
    """Raised if a watch ended immediately after it was opened."""


class Reflector:
    """Lists and watches one resource, and passes the changes to `apply`."""

    def __init__(
        self,
        resource: Resource,
        client: ApiClient,
        apply: Apply,
        *,
        retry: SharedRetry,
        freshness: Freshness,
        log: logging.Logger,
        clock: Clock,
        jitter: Jitter,
    ) -> None:
        self._resource = resource
        self._client = client
        self._apply = apply
        self._retry = retry
        self._freshness = freshness
        self._log = log
        self._clock = clock
        self._jitter = jitter
        self._version = ""
        self._token = ""
        self._limit = PageLimit()
        self._failing = False
        self._unanswered = 0
        self._last_error = ""
        self._expensive_pages = Backoff(jitter)
        self._lists = Backoff(jitter)

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        while True:
            try:
                with self._retry.long_timeout(self._unanswered) as long:
                    if self._version:
                        await self._watch(long=long)
                    else:
                        await self._page(long=long)
            except ApiError as error:
                await self._recover(error)

    async def _page(self, *, long: bool) -> None:
        first, cheap = not self._token, self._limit.cheap
        body = await self._client.page(self._token, self._limit.next, long=long)
        try:
            objects, metadata, left_out = self._resource.decoder.page(body)
        except UNDECODABLE as error:
            raise UnreadableError(f"a page of the list cannot be decoded: {error}") from error
        if not metadata.resourceVersion:
            raise UnreadableError("the list has no resourceVersion")
        self._limit.took(len(body))
        del body
        self._healthy()
        if not cheap:
            self._expensive_pages.reset()
        if left_out:
            line = LogLine("objects of an unknown shape are left out", kind=self._resource.qualified, objects=left_out)
            self._log.warning(line)
        changes: list[Change] = [Begin(self._resource.kind)] if first else []
        changes.extend(map(Put, objects))
        self._token = metadata.token or ""
        if not self._token:
            changes.append(Complete(self._resource.kind))
        work = self._apply(changes)
        if work is not None:
            await work
        if not self._token:
            self._version = metadata.resourceVersion
            self._freshness.confirm(self._resource.kind)
            self._report_recovery()

    async def _watch(self, *, long: bool) -> None:
        opened_at, version = 0.0, self._version
        confirmed = self._freshness.confirmed(self._resource.kind)
        try:
            async with self._client.watch(version, int(WATCH_TIME * (1 + self._jitter())), long=long) as follow:
                opened_at = self._clock()
                self._freshness.confirm(self._resource.kind)
                self._healthy()
                await follow(partial(self._take, LineSplitter()))
        except ExpiredError:
            if self._version == version:
                self._freshness.restore(self._resource.kind, confirmed)
            raise
        except UnreachableError as error:
            if not opened_at:
                raise
            self._log.debug(LogLine("the watch was cut", kind=self._resource.qualified, error=error))
        finally:
            lived = self._version != version or (bool(opened_at) and self._clock() - opened_at >= LIVED)
            if lived:
                self._lists.reset()
        if not lived:
            raise FruitlessError("the watch ended as soon as it was opened")

    def _take(self, splitter: LineSplitter, chunk: bytes) -> Awaitable[None] | None:
        lines = splitter.feed(chunk)
        return self._apply(self._changes(lines)) if lines else None

    def _changes(self, lines: list[bytes]) -> Iterator[Change]:
        """Yields the changes in the events of a watch.

        An event is decoded after the previous change has been applied.
        """
        try:
            for line in lines:
                change = self._read(line)
                if change is not None:
                    yield change
        except UNDECODABLE as error:
            raise UnreadableError(f"a watch event cannot be decoded: {error}") from error

    def _read(self, line: bytes) -> Change | None:
        decoder, change = self._resource.decoder, None
        try:
            event = decoder.event(line)
            kind = event.type
            if kind not in ("ERROR", "BOOKMARK"):
                change = self._change(kind, decoder.item(event.object))
        except msgspec.ValidationError:
            kind, change = self._read_object(line)
        if kind == "ERROR":
            status = decoding.decode_status(decoding.decode_event(line).object)
            raise refusal(status.code, status)
        if kind == "BOOKMARK":
            self._version = decoding.decode_bookmark(decoding.decode_event(line).object).metadata.resourceVersion
        self._freshness.confirm(self._resource.kind)
        if self._last_error:
            self._report_recovery()
        return change

    def _read_object(self, line: bytes) -> tuple[str, Change | None]:
        """Decodes an event in two steps, and returns its type and change.

        The change is None for an object of an unknown shape.
        """
        event = decoding.decode_event(line)
        if event.type not in ("ERROR", "BOOKMARK"):
            try:
                return event.type, self._change(event.type, self._resource.decoder.object(event.object))
            except msgspec.ValidationError as error:
                text = LogLine("an object of an unknown shape is left out", kind=self._resource.qualified, error=error)
                self._log.warning(text)
        return event.type, None

    def _change(self, event_type: str, item: decoding.Item) -> Change | None:
        self._version = item.version
        kind = self._resource.kind
        if event_type == "DELETED":
            return Gone(kind, item.namespace, item.name, self._trigger_time(item))
        return Put(item.trimmed, self._trigger_time(item)) if item.trimmed is not None else None

    def _trigger_time(self, item: decoding.Item) -> float:
        if self._resource.kind is not Kind.ENDPOINT_SLICE:
            return 0.0
        try:
            return decoding.trigger_time(item.annotations)
        except ValueError as error:
            self._log.warning(
                LogLine(
                    "an annotation has no time",
                    slice=f"{item.namespace}/{item.name}", annotation=decoding.TRIGGER_TIME_ANNOTATION, error=error,
                )
            )  # fmt: skip
            return 0.0

    # -- errors

    async def _recover(self, error: ApiError) -> None:
        """Logs the error unless it has been logged before, and waits until the next try."""
        if isinstance(error, ExpiredError):
            self._log.info(LogLine("listing again", kind=self._resource.qualified, error=error))
            self._healthy()
            await self._list_anew()
            return
        self._failing = True
        expensive = not self._version and not self._limit.cheap
        self._log_error(error)
        self._limit.probe()
        if isinstance(error, UnreadableError) or (
            isinstance(error, RefusedError) and self._version and error.status in UNKNOWN_VERSION
        ):
            await self._list_anew()
        if isinstance(error, RefusedError) and error.retry_after is not None:
            await self._retry.pause(error.retry_after * (1 + self._jitter() / 4))
            await self._retry.next_try(0.0)
            return
        if expensive:
            await self._retry.pause(self._expensive_pages.next())
        refused = isinstance(error, RefusedError) and error.status == 401
        if (refused or isinstance(error, UnreachableError)) and await self._client.renew(refused=refused):
            return
        await self._retry.next_try()

    async def _list_anew(self) -> None:
        """Starts a new list at its first page.

        Waits before it, unless a watch has worked since the last call.
        """
        self._version = self._token = ""
        self._limit.probe()
        await self._retry.pause(self._lists.next())

    def _log_error(self, error: ApiError) -> None:
        if isinstance(error, UnreachableError):
            self._unanswered += 1
            self._retry.unreachable(str(error), known=self._freshness.is_known)
            return
        self._unanswered = 0
        self._retry.answered()
        verb, resource = "watch" if self._version else "list", self._resource.qualified
        status = error.status if isinstance(error, RefusedError) else 0
        line = LogLine("the Kubernetes API server refuses a request", verb=verb, kind=resource, error=error)
        if status == 403:
            line = LogLine(
                "forbidden: the ServiceAccount needs the verbs list and watch in all namespaces",
                verb=verb, kind=resource, error=error,
            )  # fmt: skip
        elif status == 401:
            line = LogLine("unauthorized; reading the credentials again", verb=verb, kind=resource, error=error)
        key = f"{verb} {status or type(error).__name__}"
        if key != self._last_error:
            self._last_error = key
            self._log.error(line)

    def _healthy(self) -> None:
        """Records that the server has sent a successful response."""
        self._unanswered = 0
        self._retry.answered()
        if self._failing:
            self._failing = False
            self._retry.recovered()

    def _report_recovery(self) -> None:
        """Logs that listing and watching work again, if an error has been logged before."""
        if self._last_error:
            self._last_error = ""
            self._log.info(LogLine("listing and watching again", kind=self._resource.qualified))
