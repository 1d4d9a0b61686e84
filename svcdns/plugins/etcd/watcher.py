"""The part of the plugin `etcd` that runs in the control process: lists the keys of a source, and watches them.

Rules (docs/behaviour/plugins.md#etcd):

1. While etcd cannot be used, the workers keep the last known entries. The endpoints are tried one after the other.
2. After an interruption, a new watch begins after the last known revision. If etcd no longer has the events
   (compaction), or if another cluster answers, the keys are listed again.
3. What etcd sends is bounded: MAX_MESSAGE for a message, MAX_OCTETS for all keys and values, MAX_VALUE for a value.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic, time
from typing import Final

from svcdns.log_line import LogLine
from svcdns.plugins.etcd import messages, shards
from svcdns.plugins.etcd.client import FAILURES, TIMEOUT, EtcdClient, EtcdError, Watch
from svcdns.plugins.etcd.messages import Event, KeyValue, WatchResponse
from svcdns.plugins.etcd.options import Endpoint, Source
from svcdns.plugins.etcd.service import Entry, entry
from svcdns.plugins.etcd.shards import SHARDS, State
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.errors import TlsError
from svcdns.upstream.grpc_channel import MessageTooLargeError

Publish = Callable[[Mapping[str, bytes]], Awaitable[None]]
"""Sends changed data to the workers."""

PAGE: Final = 1000
"""The most keys of one page of a list."""
MAX_OCTETS: Final = 64 << 20
"""The most octets of all keys and values of a source."""
FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 5.0
"""The first and the longest delay in seconds before the endpoints are tried again; each failure doubles the delay."""
COLLECT: Final = 0.02
"""The seconds for which changes are collected before they are sent to the workers."""
LEASE_INTERVAL: Final = 10.0
"""The seconds after which the remaining time of a lease is read again."""
LEASE_STEP: Final = 1.0
"""The seconds after which the plugin looks for new leases."""
LEASES_A_SECOND: Final = 100
"""The most leases that are read in a second."""
MAX_WARNINGS: Final = 10
"""The most log lines about values that cannot be used, for each list or connection."""


class Watcher:
    """Keeps the entries of one source, and publishes their changes."""

    def __init__(
        self,
        source: Source,
        publish: Publish,
        connect: Callable[[Endpoint, Source], Awaitable[EtcdClient]] = EtcdClient.connect,
        log: logging.Logger | None = None,
    ) -> None:
        """`connect` makes a client, and may raise TlsError and EtcdError."""
        self._source, self._publish, self._connect = source, publish, connect
        self._log = log or plugin_logger("etcd")
        self._start = source.prefix.rstrip("/").encode() + b"/"
        self._end = messages.range_end(self._start)
        self._shards: list[dict[bytes, tuple[Entry, int]]] = [{} for _ in range(SHARDS)]
        """The entries of each shard, and the octets that each entry counts for."""
        self._octets = self._keys = self._invalid = 0
        self._users: Counter[int] = Counter()
        """By lease: how many entries have it."""
        self._cluster = self._revision = 0
        """The cluster and the revision of the entries; 0 before the first list."""
        self._dirty: set[int] = set()
        self._leases: dict[int, int] = {}
        """By lease: its end, as a time on the machine's monotonic clock."""
        self._state = State()
        self._warnings = 0
        self._problems: set[str] = set()
        """The problems that were logged since etcd last worked."""

    async def run(self) -> None:
        """Follows the source until the task is cancelled."""
        delay = FIRST_DELAY
        while True:
            for endpoint in self._source.endpoints:
                connected = monotonic()
                try:
                    await self._session(endpoint)
                except (*FAILURES, TlsError) as error:
                    await self._failed(f"{endpoint.text}: {error}")
                if monotonic() - connected > 2 * LONGEST_DELAY:
                    delay = FIRST_DELAY
            await asyncio.sleep(delay * random.uniform(0.75, 1.25))
            delay = min(2 * delay, LONGEST_DELAY)

    async def _session(self, endpoint: Endpoint) -> None:
        """Uses one server until it fails. Raises an exception with the reason."""
        client = await self._connect(endpoint, self._source)
        try:
            await client.log_in()
            while True:
                if not self._revision:
                    await self._list(client)
                try:
                    await self._follow(client, endpoint)
                except BaseExceptionGroup as group:
                    raise group.exceptions[0] from None
        finally:
            client.close()

    async def _failed(self, problem: str) -> None:
        if problem not in self._problems and len(self._problems) < MAX_WARNINGS:
            self._problems.add(problem)
            known = "last-known-records" if self._state.serial else "no-records-yet"
            self._log.error(LogLine("etcd cannot be used", error=problem, serving=known))
        await self._send(problem=problem)

    # -- the list

    async def _list(self, client: EtcdClient) -> None:
        """Reads all keys, and replaces the entries."""
        found: dict[bytes, KeyValue] = {}
        start, limit, revision, cluster, octets, more = self._start, PAGE, 0, 0, 0, True
        while more:
            try:
                page = await client.page(start, self._end, limit, revision)
            except MessageTooLargeError:
                if limit == 1:
                    raise
                limit = max(1, limit // 8)
                continue
            revision, cluster, more = revision or page.header.revision, page.header.cluster, page.more
            for pair in page.pairs:
                if pair.key < start:
                    raise EtcdError("etcd sent keys that are not in order")
                octets += _size(pair)
                if octets > MAX_OCTETS:
                    raise EtcdError(
                        f"the keys and values below {self._source.prefix} have more than {MAX_OCTETS} octets"
                    )
                found[pair.key] = pair
                start = pair.key + b"\0"
            if more and not page.pairs:
                raise EtcdError("etcd sent a page without keys that is not the last one")
        if revision <= 0:
            raise EtcdError("etcd sent a list without a revision")
        first, self._warnings = not self._state.serial, 0
        for shard in self._shards:
            for key in tuple(shard):
                if key not in found:
                    self._remove(key)
        for pair in found.values():
            self._put(pair)
        self._cluster, self._revision = cluster, revision
        if first:
            self._dirty = set(range(SHARDS))  # workers may have entries from an earlier control process
        await self._read_leases(client, self._new_leases())
        await self._send_entries()

    def _put(self, pair: KeyValue) -> None:
        shard = shards.shard_of(pair.key)
        made = entry(pair.key, pair.value, pair.lease)
        before = self._shards[shard].get(pair.key)
        if before is not None and before[0] == made:
            return
        self._remove(pair.key)
        self._octets += _size(pair)
        self._keys += 1
        self._invalid += bool(made.error)
        self._users[made.lease] += 1
        self._shards[shard][pair.key] = made, _size(pair)
        self._dirty.add(shard)
        if made.error and self._warnings < MAX_WARNINGS:
            self._warnings += 1
            self._log.warning(
                LogLine("a key is not used: queries that need it get SERVFAIL", key=made.key, error=made.error)
            )

    def _remove(self, key: bytes) -> None:
        shard = shards.shard_of(key)
        found = self._shards[shard].pop(key, None)
        if found is not None:
            made, size = found
            self._octets -= size
            self._keys -= 1
            self._invalid -= bool(made.error)
            self._users[made.lease] -= 1
            if self._users[made.lease] <= 0:
                del self._users[made.lease]
                self._leases.pop(made.lease, None)
            self._dirty.add(shard)

    # -- the watch

    async def _follow(self, client: EtcdClient, endpoint: Endpoint) -> None:
        """Applies the events after the last revision, until the watch fails. Returns if a new list is needed."""
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as tasks, client.watch(self._start, self._end, self._revision + 1) as watch:
            created = await watch.receive(TIMEOUT)
            if not self._continues(created):
                return
            await self._connected(endpoint)
            senders = [tasks.create_task(self._keep_sending(changed)), tasks.create_task(self._keep_leases(client))]
            try:
                while await self._apply(watch):
                    changed.set()
            finally:
                for task in senders:
                    task.cancel()
        await self._send_entries()

    def _continues(self, response: WatchResponse) -> bool:
        """Returns True if the watch begins where the entries end. Otherwise resets the revision, for a new list."""
        header = response.header
        if response.created and not response.canceled:
            if self._cluster in (0, header.cluster) and header.revision >= self._revision:
                return True
            self._log.warning("the etcd cluster is another one, or lost its history; the keys are listed again")
        elif response.compacted:
            self._log.warning(
                LogLine("etcd has compacted a revision; the keys are listed again", revision=self._revision + 1)
            )
        else:
            raise EtcdError(f"etcd refused the watch: {response.reason or 'no reason was given'}")
        self._revision = 0
        return False

    async def _apply(self, watch: Watch) -> bool:
        """Applies the next events. Returns False if the watch has ended and a new list is needed."""
        events: list[Event] = []
        octets = 0
        while True:
            response = await watch.receive()
            if response.canceled or response.compacted:
                self._continues(response)
                return False
            events += response.events
            octets += sum(_size(event.pair) for event in response.events)
            if octets > MAX_OCTETS:
                raise EtcdError(f"one change has more than {MAX_OCTETS} octets")
            if not response.fragment:
                break
        for event in events:
            if not event.pair.key.startswith(self._start):
                raise EtcdError("etcd sent an event of another key")
            if event.deleted:
                self._remove(event.pair.key)
            else:
                self._put(event.pair)
        if self._octets > MAX_OCTETS:
            self._revision = 0
            raise EtcdError(f"the keys and values below {self._source.prefix} have more than {MAX_OCTETS} octets")
        newest = max((event.pair.revision for event in events), default=response.header.revision)
        self._revision = max(self._revision, newest)
        return True

    async def _connected(self, endpoint: Endpoint) -> None:
        self._log.info(
            LogLine(
                "watching etcd",
                prefix=self._source.prefix, endpoint=endpoint.text, revision=self._revision, keys=self._keys,
            )
        )  # fmt: skip
        self._problems.clear()
        self._warnings = 0
        await self._send(problem="")

    async def _keep_sending(self, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            await asyncio.sleep(COLLECT)
            changed.clear()
            await self._send_entries()

    # -- leases

    def _new_leases(self) -> list[int]:
        return [lease for lease in self._users if lease and lease not in self._leases]

    async def _read_leases(self, client: EtcdClient, leases: list[int]) -> None:
        for number, lease in enumerate(leases):
            seconds = await client.remaining(lease)
            end = round(monotonic()) + seconds if seconds > 0 else 0
            if lease in self._users and abs(end - self._leases.get(lease, -2)) > 1:
                self._leases[lease] = end
            if number % LEASES_A_SECOND == LEASES_A_SECOND - 1:
                await asyncio.sleep(1)

    async def _keep_leases(self, client: EtcdClient) -> None:
        """Reads the remaining time of the leases, of new leases first."""
        due = monotonic() + LEASE_INTERVAL
        while True:
            await asyncio.sleep(LEASE_STEP)
            leases = self._new_leases()
            if monotonic() >= due:
                leases = [lease for lease in self._users if lease]
                due = monotonic() + LEASE_INTERVAL
            if leases:
                await self._read_leases(client, leases)
                await self._publish({shards.leases_key(self._source.key): shards.encode_leases(self._leases)})

    # -- to the workers

    async def _send_entries(self) -> None:
        """Sends the changed shards, and then the state."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, set()
        key, payloads = self._source.key, {}
        if not self._state.serial:
            payloads[shards.leases_key(key)] = shards.encode_leases(self._leases)
        for shard in sorted(dirty):
            made = sorted(self._shards[shard].items())
            payloads[shards.shard_key(key, shard)] = shards.encode_entries(one for _, (one, _) in made)
        await self._publish(payloads)
        await self._send(serial=int(time()))

    async def _send(self, serial: int | None = None, problem: str | None = None) -> None:
        state = State(
            self._state.serial if serial is None else serial,
            self._state.problem if problem is None else problem,
            self._keys,
            self._invalid,
        )
        if state != self._state:
            self._state = state
            await self._publish({shards.state_key(self._source.key): shards.encode_state(state)})


def _size(pair: KeyValue) -> int:
    return len(pair.key) + len(pair.value)
