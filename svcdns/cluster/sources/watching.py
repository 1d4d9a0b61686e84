"""One kind's objects kept up to date: list, then watch from the list's version, for ever.

Rules:
1. Nothing is dropped before a new list is complete: a relist is Begin, Puts page by page, Complete.
2. A watch that ends, is cut or falls silent goes on from the last version seen, without a list. Only 410 asks for a list.
3. A page that fails is asked for again with the same continue token; an expired token starts the list over.
4. Trouble is waited out with back-off that ends only when a watch has lived; each kind of trouble is said once.

Source: Kubernetes API concepts, "Efficient detection of changes", "Watch bookmarks", "Retrieving large results sets in chunks".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.sources import decoding
from svcdns.cluster.sources.api_client import ApiClient, ApiError, ExpiredError, RefusedError, UnreachableError, refusal
from svcdns.cluster.sources.freshness import Freshness
from svcdns.cluster.sources.outage import FIRST_DELAY, Backoff, Jitter, Outage
from svcdns.cluster.sources.resources import Resource
from svcdns.telemetry.clock import Clock

LONGEST_LINE = 32 << 20
"""Bytes of one watch event; etcd takes objects of 1.5 MiB."""

LIVED = 1.0
"""Seconds after which a watch that told nothing still counts as having worked."""

LONGEST_RETRY_AFTER = 60.0

Emit = Callable[[list[Change]], Awaitable[None]]
"""Takes changes in order; waits while the reader is behind."""


class UnreadableError(ApiError):
    """The API server's bytes are not what they should be."""


class FruitlessError(ApiError):
    """A watch ended as soon as it was opened."""


class LineSplitter:
    """Cuts a byte stream into lines; the unfinished last one is kept, up to `limit` bytes."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` finishes, without their newlines. Raises UnreadableError for a line that is too long."""
        *lines, rest = chunk.split(b"\n")
        if lines and self._rest:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._limit:
            raise UnreadableError(f"a watch event is longer than {self._limit} bytes")
        return [line for line in lines if line]


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
        self._backoff = Backoff(jitter)
        self._version = ""
        self._token = ""
        self._complaint = ""

    async def run(self) -> None:
        """Emit changes until cancelled."""
        while True:
            try:
                if self._version:
                    await self._watch()
                else:
                    await self._list_page()
            except ApiError as error:
                await self._recover(error)

    async def _list_page(self) -> None:
        first = not self._token
        body = await self._client.page(self._resource, self._token)
        try:
            objects, metadata, left_out = self._resource.decoder.page(body)
        except msgspec.DecodeError as error:
            raise UnreadableError(f"a page of the list cannot be decoded: {error}") from error
        del body
        if not metadata.resourceVersion:
            raise UnreadableError("the list has no resourceVersion")
        self._well()
        if left_out:
            self._log.warning("%s: %d objects of an unknown shape were left out", self._resource.qualified, left_out)
        changes: list[Change] = [Begin(self._resource.kind)] if first else []
        changes.extend(map(Put, objects))
        self._token = metadata.token or ""
        if not self._token:
            changes.append(Complete(self._resource.kind))
            self._version = metadata.resourceVersion
        await self._emit(changes)
        if not self._token:
            self._freshness.confirm(self._resource.kind)

    async def _watch(self) -> None:
        opened_at, version = 0.0, self._version
        confirmed = self._freshness.confirmed(self._resource.kind)
        try:
            async with self._client.watch(self._resource, version, int(300 * (1 + self._jitter()))) as chunks:
                opened_at = self._clock()
                self._outage.answered()
                self._freshness.confirm(self._resource.kind)
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
                self._backoff.reset()
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
        self._well()

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

    async def _recover(self, error: ApiError) -> None:
        """Say what is wrong unless it was said, and wait as long as it takes."""
        verb = "watch" if self._version else "list"
        if isinstance(error, ExpiredError | UnreadableError):
            self._version = self._token = ""
        delay = self._backoff.next()
        first = self._backoff.failures == 1
        if isinstance(error, ExpiredError):
            self._log.info("%s: %s; listing anew", self._resource.qualified, error)
            delay = 0.0 if first else delay
        elif isinstance(error, UnreachableError):
            self._outage.failed(str(error))
        else:
            self._complain(verb, error)
        if isinstance(error, RefusedError):
            if error.retry_after is not None:
                delay = max(min(error.retry_after, LONGEST_RETRY_AFTER), FIRST_DELAY) * (1 + self._jitter() / 4)
            if error.status == 401 and await self._client.renew() and first:
                delay = 0.0
        if delay:
            await self._outage.pause(delay)

    def _complain(self, verb: str, error: ApiError) -> None:
        resource = self._resource.qualified
        if isinstance(error, RefusedError) and error.status == 403:
            rights = f'the ServiceAccount needs "list" and "watch" on {resource} in all namespaces'
            text = f"cannot {verb} {resource}: forbidden; {rights} ({error})"
        elif isinstance(error, RefusedError) and error.status == 401:
            text = f"cannot {verb} {resource}: unauthorized; reading the credentials again ({error})"
        else:
            text = f"cannot {verb} {resource}: {error}"
        key = f"{verb} {getattr(error, 'status', type(error).__name__)}"
        if key != self._complaint:
            self._complaint = key
            self._log.error("%s", text)

    def _well(self) -> None:
        self._outage.answered()
        if self._complaint:
            self._complaint = ""
            self._log.info("%s: listing and watching again", self._resource.qualified)
