"""Listing and watching the keys of a source, with a scripted etcd."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from svcdns.plugins.etcd import shards, watcher
from svcdns.plugins.etcd.client import EtcdError
from svcdns.plugins.etcd.messages import Event, Header, KeyValue, Page, WatchResponse
from svcdns.plugins.etcd.options import Endpoint, Source
from svcdns.plugins.etcd.shards import SHARDS, State
from svcdns.plugins.etcd.watcher import Watcher
from svcdns.tls.errors import TlsError
from svcdns.upstream.grpc_calls import GrpcCallError
from svcdns.upstream.grpc_channel import MessageTooLargeError

SOURCE = Source((Endpoint("one", "one", 1), Endpoint("two", "two", 2)), "skydns")
VALUE = b'{"host":"10.0.0.1"}'


def pair(name: str, value: bytes = VALUE, revision: int = 1, lease: int = 0) -> KeyValue:
    return KeyValue(f"/skydns/{name}".encode(), value, revision, lease)


def response(*events: Event, revision: int = 0, **fields: Any) -> WatchResponse:
    values: dict[str, Any] = {
        "created": False, "canceled": False, "compacted": 0, "reason": "", "fragment": False, "header": Header(7, revision), **fields,
    }  # fmt: skip
    return WatchResponse(events=events, **values)


CREATED = {"created": True}
LOST = GrpcCallError("connection lost")


class Etcd:
    """A scripted etcd: its keys, and the messages of each watch. Errors in the messages are raised."""

    def __init__(self, *pairs: KeyValue, revision: int = 5) -> None:
        self.pairs, self.revision, self.limit = list(pairs), revision, 1000
        self.watches: list[asyncio.Queue[WatchResponse | Exception]] = []
        self.from_revisions: list[int] = []
        self.errors: list[Exception] = []
        """Errors of the next connections."""
        self.endpoints: list[str] = []
        self.lease_seconds = 100
        self.closed = self.lists = 0

    async def connect(self, endpoint: Endpoint, _source: Source) -> Any:
        self.endpoints.append(endpoint.text)
        if self.errors:
            raise self.errors.pop(0)
        return self

    async def log_in(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1

    async def page(self, start: bytes, _end: bytes, limit: int, revision: int) -> Page:
        if limit > self.limit:
            raise MessageTooLargeError("too large")
        self.lists += start == b"/skydns/"
        found = sorted((one for one in self.pairs if one.key >= start), key=lambda one: one.key)
        return Page(
            Header(7, self.revision if not revision else revision + 9), tuple(found[:limit]), len(found) > limit
        )

    async def remaining(self, _lease: int) -> int:
        return self.lease_seconds

    @asynccontextmanager
    async def watch(self, _start: bytes, _end: bytes, revision: int) -> AsyncIterator[Any]:
        messages: asyncio.Queue[WatchResponse | Exception] = asyncio.Queue()
        self.watches.append(messages)
        self.from_revisions.append(revision)

        class Watch:
            async def receive(self, _timeout: float | None = None) -> WatchResponse:
                found = await messages.get()
                if isinstance(found, Exception):
                    raise found
                return found

        yield Watch()


class World:
    """A watcher, and what it has published."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.data: dict[str, bytes] = {}
        self.publications: list[Mapping[str, bytes]] = []
        self.changed = asyncio.Event()
        self.watcher = Watcher(SOURCE, self._publish, etcd.connect, logging.getLogger("svcdns.plugin.etcd"))

    async def _publish(self, data: Mapping[str, bytes]) -> None:
        self.publications.append(data)
        self.data |= data
        self.changed.set()

    @property
    def names(self) -> set[str]:
        """Returns the published keys, without the prefix."""
        found = [shards.decode_entries(self.data.get(shards.shard_key(SOURCE.key, n), b"\x90")) for n in range(SHARDS)]
        return {entry.key.removeprefix("/skydns/") for some in found for entry in some}

    @property
    def state(self) -> State:
        return shards.decode_state(self.data[shards.state_key(SOURCE.key)])

    async def until(self, probe: Callable[[], object]) -> None:
        """Waits until `probe` returns a true value. Looks after each publication, and otherwise now and then."""
        async with asyncio.timeout(10):
            while not probe():
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.002):
                        await self.changed.wait()
                self.changed.clear()

    async def watching(self, number: int) -> asyncio.Queue[WatchResponse | Exception]:
        """Waits until the watch `number` is open, and returns its messages."""
        await self.until(lambda: len(self.etcd.watches) >= number)
        return self.etcd.watches[number - 1]


Run = Callable[[Etcd], Awaitable[World]]


@pytest.fixture
async def run(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Returns a function that starts a watcher. There are no delays."""
    monkeypatch.setattr(watcher, "FIRST_DELAY", 0.0)
    monkeypatch.setattr(watcher, "COLLECT", 0.0)
    tasks = []

    async def start(etcd: Etcd) -> World:
        made = World(etcd)
        tasks.append(asyncio.create_task(made.watcher.run()))
        return made

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_list_and_events(run: Run) -> None:
    """The first list sends all shards, and later changes send one shard each."""
    world = await run(Etcd(pair("a"), pair("b")))
    messages = await world.watching(1)
    messages.put_nowait(response(revision=5, **CREATED))
    await world.until(lambda: world.data.get(shards.state_key(SOURCE.key)) and not world.state.problem)
    assert (world.names, world.state.keys, world.state.serial > 0) == ({"a", "b"}, 2, True)
    assert len(world.data) == SHARDS + 2
    assert world.etcd.from_revisions == [6]
    world.publications.clear()
    messages.put_nowait(response(Event(False, pair("c", revision=6)), Event(True, pair("a", b"", 6)), fragment=True))
    messages.put_nowait(response(Event(False, pair("d", revision=7))))
    await world.until(lambda: world.names == {"b", "c", "d"})
    assert all(len(one) <= 3 for one in world.publications)


async def test_pages(run: Run) -> None:
    """If a page is too large, smaller pages are read, down to one key."""
    etcd = Etcd(*(pair(f"{number:03}") for number in range(50)))
    etcd.limit = 3
    world = await run(etcd)
    await world.until(lambda: len(world.names) == 50)
    await world.watching(1)
    assert etcd.from_revisions == [6], "the revision of the first page"


async def test_an_outage(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The records stay, each reason is logged once, and the watch goes on after the last revision."""
    world = await run(Etcd(pair("a")))
    (await world.watching(1)).put_nowait(response(revision=5, **CREATED))
    world.etcd.watches[0].put_nowait(response(Event(False, pair("b", revision=8))))
    await world.until(lambda: world.names == {"a", "b"})
    world.etcd.errors = [LOST, EtcdError("x"), LOST, EtcdError("x"), TlsError("no certificate")]
    world.etcd.watches[0].put_nowait(LOST)
    messages = await world.watching(2)
    assert (world.names, bool(world.state.problem)) == ({"a", "b"}, True)
    messages.put_nowait(response(revision=8, **CREATED))
    await world.until(lambda: not world.state.problem)
    assert world.etcd.from_revisions == [6, 9]
    assert world.etcd.lists == 1
    errors = [one.message for one in caplog.records if one.levelname == "ERROR"]
    assert len(errors) == len(set(errors)) == 4, errors
    assert errors[0] == 'etcd cannot be used error="one: connection lost" serving=last-known-records'
    assert {"one", "two"} == set(world.etcd.endpoints)


@pytest.mark.parametrize(
    ("first", "text"),
    [
        pytest.param(response(canceled=True, compacted=9, **CREATED), "listed again revision=6", id="compaction"),
        pytest.param(response(revision=2, **CREATED), "lost its history", id="an older revision"),
        pytest.param(response(header=Header(8, 9), **CREATED), "is another one", id="another cluster"),
    ],
)
async def test_a_new_list(run: Run, first: WatchResponse, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """If the events after the last revision cannot be had, the keys are listed again."""
    world = await run(Etcd(pair("a")))
    messages = await world.watching(1)
    world.etcd.pairs = [pair("b")]
    messages.put_nowait(first)
    await world.until(lambda: world.names == {"b"})
    await world.watching(2)
    assert text in caplog.text


async def test_a_compaction_during_a_watch(run: Run) -> None:
    world = await run(Etcd(pair("a")))
    messages = await world.watching(1)
    messages.put_nowait(response(revision=5, **CREATED))
    world.etcd.pairs = [pair("c")]
    messages.put_nowait(response(canceled=True, compacted=20))
    await world.until(lambda: world.names == {"c"})


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        pytest.param(response(canceled=True, reason="why", **CREATED), "etcd refused the watch: why", id="refused"),
        pytest.param(response(canceled=True), "etcd refused the watch: no reason was given", id="no reason"),
        pytest.param(response(Event(False, KeyValue(b"/other", b""))), "etcd sent an event of another key", id="another key"),
        pytest.param(response(Event(False, pair("x", b"x" * 180))), "below /skydns have more than 200 octets", id="much"),
        pytest.param(response(*[Event(False, pair("x", b"x" * 100))] * 2, fragment=True), "one change has more than 200", id="endless"),
    ],
)  # fmt: skip
async def test_watches_that_cannot_be_used(
    run: Run, message: WatchResponse, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records stay, and the next endpoint is tried."""
    monkeypatch.setattr(watcher, "MAX_OCTETS", 200)
    world = await run(Etcd(pair("a")))
    messages = await world.watching(1)
    if not message.created:
        messages.put_nowait(response(revision=5, **CREATED))
    messages.put_nowait(message)
    await world.until(lambda: any(problem in text for text in world.watcher._problems) or world.state.problem)
    await world.watching(2)
    assert any(problem in text for text in world.watcher._problems) or problem in world.state.problem
    assert "a" in world.names


class Odd(Etcd):
    """An etcd whose pages break a rule."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.answer = page

    async def page(self, start: bytes, _end: bytes, limit: int, revision: int) -> Page:
        return self.answer


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        pytest.param(Page(Header(7, 5), (pair("b"), pair("a")), more=False), "keys that are not in order", id="order"),
        pytest.param(Page(Header(7, 5), (pair("b"),), more=True), "keys that are not in order", id="endless"),
        pytest.param(Page(Header(7, 5), (), more=True), "a page without keys", id="no keys"),
        pytest.param(Page(Header(7, 0), (), more=False), "a list without a revision", id="no revision"),
        pytest.param(Page(Header(7, 5), (pair("b", b"x" * 300),), more=False), "have more than 200 octets", id="much"),
    ],
)
async def test_lists_that_cannot_be_used(run: Run, page: Page, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "MAX_OCTETS", 200)
    world = await run(Odd(page))
    await world.until(lambda: world.data.get(shards.state_key(SOURCE.key)))
    assert problem in world.state.problem
    assert world.state.serial == 0


async def test_values_that_cannot_be_used(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """They are counted, and a few of them are logged."""
    world = await run(Etcd(*(pair(f"{number:02}", b"{") for number in range(30)), pair("a")))
    await world.until(lambda: len(world.names) == 31)
    await world.until(lambda: world.state.invalid == 30)
    assert caplog.text.count("invalid JSON") == watcher.MAX_WARNINGS


async def test_leases(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of each lease is sent, and read again. A lease without keys is forgotten."""
    monkeypatch.setattr(watcher, "LEASE_INTERVAL", 0.0)
    monkeypatch.setattr(watcher, "LEASE_STEP", 0.001)
    monkeypatch.setattr(watcher, "monotonic", lambda: 1000.0)
    world = await run(Etcd(pair("a", lease=9)))
    messages = await world.watching(1)
    key = shards.leases_key(SOURCE.key)
    assert shards.decode_leases(world.data[key]) == {9: 1100}
    messages.put_nowait(response(revision=5, **CREATED))
    world.etcd.lease_seconds = 300
    await world.until(lambda: shards.decode_leases(world.data[key]) == {9: 1300})
    messages.put_nowait(response(Event(True, pair("a", b"", 6)), Event(False, pair("b", revision=6, lease=10))))
    await world.until(lambda: shards.decode_leases(world.data[key]) == {10: 1300})
    world.etcd.lease_seconds = -1
    await world.until(lambda: shards.decode_leases(world.data[key]) == {10: 0})
