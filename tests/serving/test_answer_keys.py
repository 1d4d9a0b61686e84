"""Keys of stored replies that a worker passes on: its successor makes the same replies as without them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcdns.chain.routing import CONFIGURATION, DROPPED
from svcdns.cluster.changes import Change, Dependency, Put
from svcdns.plugin_api.reply import UNTIL_CHANGED
from svcdns.serving import answer_keys
from svcdns.serving.answer_keys import SampledKeys, hot_keys, note_used_keys
from svcdns.serving.answer_table import AnswerTable, Countdown, Details, Entry
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.telemetry.counters import samples
from svcdns.worker import worker
from tests.worker.test_reload import CHANGES, QUERIES, Server, histories, identity

COREFILE = """
. {
    bind 127.0.0.1
    prometheus
    BEFORE
    kubernetes cluster.local in-addr.arpa {
        endpoint http://127.0.0.1:1
        fallthrough in-addr.arpa
    }
}
"""
OBJECTS: dict[tuple[str, ...], Change] = {identity(change): change for change in CHANGES if isinstance(change, Put)}


async def passed_on(old: Server, new: Server) -> None:
    """Passes the keys of the old server's stored replies to the new server."""
    first, second = socket.socketpair()
    await asyncio.wait_for(asyncio.gather(old.worker.give_keys(first), new.worker.take_keys(second)), 10)


def counters(server: Server) -> dict[tuple[str, tuple[str, ...]], tuple[float, ...]]:
    """Returns the counters of queries, without the durations."""
    server.worker.flush()
    return {
        (one.family.name, one.values): one.cells
        for one in samples(server.worker.counters._region)
        if one.family.name.startswith("coredns_") and "duration" not in one.family.name
    }


async def compare(folder: Path, corefile: str, changes: list[Change]) -> None:
    (folder / "hosts").write_text("192.0.2.50 named.example.org\n")
    old, new, fresh = [Server(folder, OBJECTS) for _ in range(3)]
    for server in (old, new, fresh):
        await server.load(corefile)
    for _ in range(2):
        old.replies()
    for change in changes:
        for server in (new, fresh):
            await server.change(change)
    await passed_on(old, new)
    for _ in range(3):
        found, expected = new.replies(), fresh.replies()
        assert [(query, found[query]) for query in QUERIES] == [(query, expected[query]) for query in QUERIES]
    for server in (old, new, fresh):
        await server.close()


@settings(max_examples=10, deadline=None)
@given(corefiles=histories(), changes=st.lists(st.sampled_from(CHANGES), max_size=3))
def test_replies_are_those_of_a_server_without_keys(
    tmp_path_factory: Any, corefiles: list[str | Change], changes: list[Change]
) -> None:
    corefile = next(one for one in corefiles if isinstance(one, str))
    asyncio.run(compare(tmp_path_factory.mktemp("keys"), corefile, changes))


@pytest.mark.parametrize(
    "before", ["", "loadbalance\ncache 30", "rewrite name old.example web.d.svc.cluster.local", "log"]
)
async def test_replies_are_stored_and_not_counted(tmp_path: Path, before: str) -> None:
    """The replies are made on the cold path, and for a block without cold path in the plugin chain."""
    old, new, fresh = [Server(tmp_path, OBJECTS) for _ in range(3)]
    for server in (old, new, fresh):
        await server.load(COREFILE.replace("BEFORE", before))
    for _ in range(2):
        old.replies()
    await passed_on(old, new)
    keys = hot_keys(old.responder.table, answer_keys.MAX_KEYS)
    assert len(keys) > 7
    assert list(new.responder.table.current) == keys
    assert counters(new) == {key: tuple(0.0 for _ in cells) for key, cells in counters(new).items()}
    for server in (new, fresh):
        server.replies()
    requests = {key: cells for key, cells in counters(fresh).items() if key[0].startswith("coredns_dns_")}
    assert {key: cells for key, cells in counters(new).items() if key in requests} == requests
    for server in (old, new, fresh):
        await server.close()


def entry(key: bytes, *dependencies: Dependency, details: Details | None = None) -> Entry:
    return Entry(key, b"reply", UNTIL_CHANGED, dependencies, HitCounter((), Origin(DROPPED)), details)


def test_keys_of_replies_that_only_data_of_this_server_decide() -> None:
    table = AnswerTable(1 << 20, lambda: 0.0)
    table.put(entry(b"cluster", ("Service", "d", "web")))
    table.put(entry(b"upstream", details=Details(countdown=Countdown(((),), 9.0))))
    table.put(entry(b"independent"))
    table.put(entry(b"another block", CONFIGURATION, ("Service", "d", "web")))
    assert hot_keys(table, 9) == [b"cluster"]


def test_the_keys_in_use_are_preferred_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    table = AnswerTable(1 << 20, lambda: 0.0)
    for number in range(9):
        table.put(entry(b"%d" % number, ("Service", "d", str(number))))
    note_used_keys(table)
    assert len(table.current) == 9
    monkeypatch.setattr(answer_keys, "MAX_KEYS", 3)
    note_used_keys(table)
    for key in (b"7", b"2"):
        assert table.find(key, 1.0) is not None
    assert hot_keys(table, 3) == [b"7", b"2", b"0"]


async def test_a_predecessor_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of an earlier version ignores the message."""
    monkeypatch.setattr(worker, "KEYS_TIMEOUT", 0.01)
    new = Server(tmp_path, OBJECTS)
    await new.load(COREFILE.replace("BEFORE", ""))
    first, second = socket.socketpair()
    with first:
        await asyncio.wait_for(new.worker.take_keys(second), 10)
    assert len(new.responder.table) == 0
    await new.close()


async def sampled(tmp_path: Path, corefile: str) -> list[bytes]:
    """Samples queries in one server, and returns the keys of the replies that another server makes from the samples."""
    old, new = Server(tmp_path, OBJECTS), Server(tmp_path, OBJECTS)
    for server in (old, new):
        await server.load(corefile)
    for _ in range(2):
        old.replies()
    now, ring = new.worker.clock(), new.worker.listeners.ring
    for number, entry in enumerate(old.responder.table.current.values()):
        client = (b"\x7f\0\0\1", bytes(15) + b"\1")[number % 4 == 3]
        ring.write(now, 1.0, 0, client, entry.key, is_local=number % 4 != 1)
    ring.write(now - 61.0, 1.0, 0, b"\x7f\0\0\1", b"too old", is_local=True)
    keys = SampledKeys(new.worker.listeners, now)
    list(keys.make())
    found = list(new.responder.table.current)
    assert keys.made == len(found)
    if found:
        assert counters(new) == {key: tuple(0.0 for _ in cells) for key, cells in counters(new).items()}
        expected = old.replies()
        assert new.replies() == expected
    local = [key for number, key in enumerate(old.responder.table.current) if number % 4 in (0, 2)]
    for server in (old, new):
        await server.close()
    assert sorted(found) in ([], sorted(local))
    return found


async def test_replies_to_sampled_queries(tmp_path: Path) -> None:
    """A query is made again if the family of its client has a socket, and if only data of the server decide it."""
    assert len(await sampled(tmp_path, COREFILE.replace("BEFORE", "traffic"))) > 4


async def test_no_replies_without_traffic(tmp_path: Path) -> None:
    assert await sampled(tmp_path, COREFILE.replace("BEFORE", "")) == []


async def test_making_sampled_replies_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_keys, "MAX_SAMPLED_SECONDS", -1.0)
    assert await sampled(tmp_path, COREFILE.replace("BEFORE", "traffic")) == []
