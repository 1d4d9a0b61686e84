"""One kind's objects kept up to date: list, then watch from the list's version, for ever.

Rules:
1. Nothing is dropped before a new list is complete: a relist is Begin, Puts page by page, Complete.
2. A watch that ends, is cut or falls silent goes on from the last version seen, without a list. Only 410 asks for a list.
3. A list begins with a page of one object, and goes on with pages of about PAGE_OCTETS, so that one page is all of it that is in memory.
4. A page that fails is asked for again with the same continue token, as one of one object; an expired token starts the list over.
5. What fails is tried again when it is its turn (`outage`): a watch where there is a version to go on from, else a page of one object, so
   that a sick server is never asked for a full list. A Retry-After is waited for first, however long it is.
6. Each kind of trouble is said once.

Lists come in pages and not as a watch with initial events (WatchList): docs/architecture.md has what both cost.

Source: Kubernetes API concepts, "Efficient detection of changes", "Watch bookmarks", "Retrieving large results sets in chunks".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.eventloop.clock import Clock
from svcdns.sources.api import decoding
from svcdns.sources.api.client import ApiClient, ApiError, ExpiredError, RefusedError, UnreachableError, refusal
from svcdns.sources.api.paging import LineSplitter, PageLimit, UnreadableError
from svcdns.sources.api.resources import Resource
from svcdns.sources.api.retry import Backoff, Jitter, Outage
from svcdns.sources.api.staleness import Freshness

LIVED = 1.0
"""Seconds after which a watch that told nothing still counts as having worked."""

WATCH_TIME = 300
"""Seconds, up to twice as many, after which the server is to end a watch."""

NO_USE = (400, 422)
"""How a watch is refused whose version the server cannot make sense of, as after a restore of its storage."""

Emit = Callable[[list[Change]], Awaitable[None]]
"""Takes changes in order; waits while the reader is behind."""


class FruitlessError(ApiError):
    """A watch ended as soon as it was opened."""


class Reflector:
    """Lists and watches one resource and emits its changes."""

    def __init__(
        self,
        resource: Resource,
        client: ApiClient,
        emit: Emit,
        *,
        outage: Outage,
        freshness: Freshness,
        log: logging.Logger,
        clock: Clock,
        jitter: Jitter,
    ) -> None:
        self._resource = resource
        self._client = client
        self._emit = emit
        self._outage = outage
        self._freshness = freshness
        self._log = log
        self._clock = clock
        self._jitter = jitter
        self._version = ""
        self._token = ""
        self._limit = PageLimit()
        self._troubled = False
        self._unanswered = 0
        self._complaint = ""
        self._dear_pages = Backoff(jitter)
        self._lists = Backoff(jitter)

    async def run(self) -> None:
        """Emit changes until cancelled."""
        while True:
            try:
                with self._outage.patience(self._unanswered) as patient:
                    if self._version:
                        await self._watch(patient=patient)
                    else:
                        await self._page(patient=patient)
            except ApiError as error:
                await self._recover(error)

    async def _page(self, *, patient: bool) -> None:
        first, cheap = not self._token, self._limit.cheap
        body = await self._client.page(self._token, self._limit.next, patient=patient)
        try:
            objects, metadata, left_out = self._resource.decoder.page(body)
        except msgspec.DecodeError as error:
            raise UnreadableError(f"a page of the list cannot be decoded: {error}") from error
        if not metadata.resourceVersion:
            raise UnreadableError("the list has no resourceVersion")
        self._limit.took(len(body))
        del body
        self._well()
        if not cheap:
            self._dear_pages.reset()
        if left_out:
            self._log.warning("%s: %d objects of an unknown shape were left out", self._resource.qualified, left_out)
        changes: list[Change] = [Begin(self._resource.kind)] if first else []
        changes.extend(map(Put, objects))
        self._token = metadata.token or ""
        if not self._token:
            changes.append(Complete(self._resource.kind))
        await self._emit(changes)
        if not self._token:
            self._version = metadata.resourceVersion
            self._freshness.confirm(self._resource.kind)
            self._again()

    async def _watch(self, *, patient: bool) -> None:
        opened_at, version = 0.0, self._version
        confirmed = self._freshness.confirmed(self._resource.kind)
        try:
            async with self._client.watch(version, int(WATCH_TIME * (1 + self._jitter())), patient=patient) as chunks:
                opened_at = self._clock()
                self._freshness.confirm(self._resource.kind)
                self._well()
                splitter = LineSplitter()
                async for chunk in chunks:
                    await self._take(splitter.feed(chunk))
        except ExpiredError:
            if self._version == version:
                self._freshness.take_back(self._resource.kind, confirmed)
            raise
        except UnreachableError as error:
            if not opened_at:
                raise
            self._log.debug("%s: the watch was cut: %s", self._resource.qualified, error)
        finally:
            lived = self._version != version or (bool(opened_at) and self._clock() - opened_at >= LIVED)
            if lived:
                self._lists.reset()
        if not lived:
            raise FruitlessError("the watch ended as soon as it was opened")

    async def _take(self, lines: list[bytes]) -> None:
        changes: list[Change] = []
        try:
            for line in lines:
                self._read(line, changes)
        except msgspec.DecodeError as error:
            raise UnreadableError(f"a watch event cannot be decoded: {error}") from error
        finally:
            if changes:
                await self._emit(changes)

    def _read(self, line: bytes, changes: list[Change]) -> None:
        event = decoding.decode_event(line)
        if event.type == "ERROR":
            status = decoding.decode_status(event.object)
            raise refusal(status.code, status)
        if event.type == "BOOKMARK":
            self._version = decoding.decode_bookmark(event.object).metadata.resourceVersion
        else:
            self._read_object(event, changes)
        self._freshness.confirm(self._resource.kind)
        self._again()

    def _read_object(self, event: decoding.Event, changes: list[Change]) -> None:
        try:
            item = self._resource.decoder.object(event.object)
        except msgspec.ValidationError as error:
            self._log.warning("%s: an object of an unknown shape was left out: %s", self._resource.qualified, error)
            return
        self._version = item.version
        kind = self._resource.kind
        if event.type == "DELETED":
            changes.append(Gone(kind, item.namespace, item.name, self._trigger_time(item)))
        elif item.kept is not None:
            changes.append(Put(item.kept, self._trigger_time(item)))

    def _trigger_time(self, item: decoding.Item) -> float:
        if self._resource.kind is not Kind.ENDPOINT_SLICE:
            return 0.0
        try:
            return decoding.trigger_time(item.annotations)
        except ValueError as error:
            self._log.warning("%s/%s: %s: %s", item.namespace, item.name, decoding.TRIGGER_TIME_ANNOTATION, error)
            return 0.0

    # -- trouble

    async def _recover(self, error: ApiError) -> None:
        """Says what is wrong unless it was said, and waits until this is to be tried again."""
        if isinstance(error, ExpiredError):
            self._log.info("%s: %s; listing anew", self._resource.qualified, error)
            self._well()
            await self._list_anew()
            return
        self._troubled = True
        dear = not self._version and not self._limit.cheap
        self._complain(error)
        self._limit.probe()
        if isinstance(error, UnreadableError) or (isinstance(error, RefusedError) and self._version and error.status in NO_USE):
            await self._list_anew()
        if isinstance(error, RefusedError) and error.retry_after is not None:
            await self._outage.pause(error.retry_after * (1 + self._jitter() / 4))
            await self._outage.turn(0.0)
            return
        if dear:
            await self._outage.pause(self._dear_pages.next())
        refused = isinstance(error, RefusedError) and error.status == 401
        if (refused or isinstance(error, UnreachableError)) and await self._client.renew(refused=refused):
            return
        await self._outage.turn()

    async def _list_anew(self) -> None:
        """At once, but not again and again while no watch comes of it."""
        self._version = self._token = ""
        self._limit.probe()
        await self._outage.pause(self._lists.next())

    def _complain(self, error: ApiError) -> None:
        if isinstance(error, UnreachableError):
            self._unanswered += 1
            self._outage.unreachable(str(error))
            return
        self._unanswered = 0
        self._outage.answered()
        verb, resource = "watch" if self._version else "list", self._resource.qualified
        status = error.status if isinstance(error, RefusedError) else 0
        text = f"cannot {verb} {resource}: {error}"
        if status == 403:
            rights = f'the ServiceAccount needs "list" and "watch" on {resource} in all namespaces'
            text = f"cannot {verb} {resource}: forbidden; {rights} ({error})"
        elif status == 401:
            text = f"cannot {verb} {resource}: unauthorized; reading the credentials again ({error})"
        key = f"{verb} {status or type(error).__name__}"
        if key != self._complaint:
            self._complaint = key
            self._log.error("%s", text)

    def _well(self) -> None:
        """The server answers as it should."""
        self._unanswered = 0
        self._outage.answered()
        if self._troubled:
            self._troubled = False
            self._outage.over()

    def _again(self) -> None:
        """What was complained of is over."""
        if self._complaint:
            self._complaint = ""
            self._log.info("%s: listing and watching again", self._resource.qualified)
