"""Tools list and drop the stored replies of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import dns.message
import msgspec
import pytest

from svcdns.chain.routing import DROPPED
from svcdns.feed.frames import Call
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.stored import Selection, StoredReplies, StoredReply
from svcdns.plugins.cache import Cache
from svcdns.serving.answer_table import AnswerTable, Countdown, Details, Entry
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.wire import names
from svcdns.wire.codes import RA, RD
from svcdns.worker import cache_calls, calls
from tests.support import world


class Worker:
    """A worker with one answer table and the plugin *cache*."""

    def __init__(self) -> None:
        self.clock = world.Clock()
        self.table = AnswerTable(1 << 20, self.clock)
        responder = SimpleNamespace(table=self.table, listener=SimpleNamespace(server="dns://:53"))
        self.listeners: Any = SimpleNamespace(responders=[responder])
        self.steps = 0
        self.cache = Cache(world.options("cache", "cache {\n prefetch 10\n}"), world.environment(clock=self.clock))

    def plugins_with(self, hook: str) -> list[Plugin]:
        assert hook in ("stored_replies", "drop_replies")
        return [self.cache]

    async def in_steps(self, steps: Iterator[None]) -> None:
        for _ in steps:
            self.steps += 1

    def put(self, name: str, rtype: str = "A", key: bytes = b"", **fields: Any) -> None:
        """Stores an encoded reply to a query for a name in the answer table."""
        query = dns.message.make_query(name, rtype)
        reply = dns.message.make_response(query)
        reply.answer = [dns.rrset.from_text(name, 60, "IN", "A", "10.0.0.1")]
        values = {"deadline": float("inf"), "dependencies": (("service", name),), "details": None, **fields}
        wire = reply.to_wire()[2:]
        entry = Entry(key or query.to_wire()[2:], wire, hit_counter=HitCounter((), Origin(DROPPED)), **values)
        if entry.details is not None and entry.details.wires:
            entry.wire, entry.details.wires = None, (wire, wire)
        self.table.put(entry)

    def answer(self, name: str) -> None:
        """Stores an answer in the plugin *cache*."""
        reply = Reply(flags=RD | RA, answer=world.records(f"{name} 60 IN A 10.0.0.1"))
        world.now(self.cache.handle(world.query(name, server="dns://:53"), lambda _: reply))

    async def list(self, selection: Selection, limit: int = 100) -> StoredReplies:
        return await cache_calls.listed(cast("Any", self), selection, limit)

    async def drop(self, selection: Selection) -> dict[str, int]:
        return await cache_calls.dropped(cast("Any", self), selection)


def name(text: str) -> bytes:
    return names.from_text(text)


async def test_what_is_listed() -> None:
    """Replies of equal names and types are joined, and those that may not be served any more are left out."""
    worker = Worker()
    worker.put("a.example.org.")
    worker.put("A.example.org.", key=b"another packet")
    worker.put("b.example.org.", deadline=worker.clock() + 5)
    worker.put("gone.example.org.", deadline=worker.clock() - 1)
    worker.answer("a.example.org.")
    worker.clock.turn(1.5)
    found = await worker.list(Selection())
    assert found.total == 4
    assert found.replies == [
        StoredReply("table", "dns://:53", name("a.example.org."), 1, 0, 60, None, None, 2),
        StoredReply("table", "dns://:53", name("b.example.org."), 1, 0, 60, 3.5),
        StoredReply("cache", "dns://:53", name("a.example.org."), 1, 0, 59, 58.5, 0),
    ]
    assert (await worker.list(Selection(name("b.example.org.")))).total == 1
    assert (await worker.list(Selection(rtype=28))).total == 0
    assert (await worker.list(Selection(zone=name("org.")))).total == 4
    short = await worker.list(Selection(), 1)
    assert (short.total, len(short.replies)) == (4, 1)


async def test_ttls_that_count_down_and_orders_of_records() -> None:
    worker = Worker()
    now = worker.clock()
    wire_ttl = 12 + len("a.example.org.") + 1 + 4 - 2 + 6
    worker.put("a.example.org.", deadline=now + 1, details=Details(countdown=Countdown(((wire_ttl,),), now + 60)))
    worker.put("b.example.org.", details=Details(wires=(b"", b""), uses=4))
    worker.clock.turn(2.5)
    first, second = (await worker.list(Selection())).replies
    assert (first.ttl, first.expires) == (58, 57.5)
    assert second.hits == 3


async def test_entries_of_a_previous_generation() -> None:
    """An entry whose data have changed is not listed, even while it is still in memory."""
    worker = Worker()
    worker.put("a.example.org.")
    worker.put("b.example.org.")
    worker.table._hide([("service", "a.example.org.")])
    assert [one.name for one in (await worker.list(Selection())).replies] == [name("b.example.org.")]
    assert await worker.drop(Selection()) == {"table": 1, "cache": 0}


async def test_what_is_dropped() -> None:
    """The counts are those of a list before."""
    worker = Worker()
    for text in ("a.example.org.", "b.example.org.", "a.example.com."):
        worker.put(text)
        worker.answer(text)
    changes = worker.table.changes
    assert await worker.drop(Selection(name("a.example.org."))) == {"table": 1, "cache": 1}
    assert worker.table.changes > changes
    assert await worker.drop(Selection(name("a.example.org."))) == {"table": 0, "cache": 0}
    assert await worker.drop(Selection(zone=name("org."))) == {"table": 1, "cache": 1}
    assert (await worker.list(Selection())).total == 2


async def test_long_work_has_steps() -> None:
    worker = Worker()
    for number in range(3 * cache_calls.STEP):
        worker.put(f"n{number}.example.org.")
        worker.answer(f"n{number}.example.org.")
    await worker.list(Selection())
    listed, worker.steps = worker.steps, 0
    assert await worker.drop(Selection()) == {"table": 192, "cache": 192}
    assert listed >= 6
    assert worker.steps >= 6


@pytest.mark.parametrize(("function", "kind"), [("list_replies", StoredReplies), ("drop_replies", dict[str, int])])
async def test_calls_of_control(function: str, kind: type) -> None:
    argument = msgspec.msgpack.encode((Selection(), 5))
    returned = await calls.run(Call(1, function, argument), cast("Any", Worker()))
    assert returned.error == ""
    msgspec.msgpack.decode(returned.result, type=kind)


async def test_replies_that_only_the_kernel_has_are_dropped() -> None:
    """Until a discarded generation is freed, the accelerator has copies of its entries."""
    worker, copied = Worker(), dict[bytes, Entry]()
    worker.table.mirror = SimpleNamespace(
        put=lambda entry: copied.setdefault(entry.key, entry), remove=lambda key: copied.pop(key, None)
    )
    worker.put("a.example.org.")
    worker.table.allow(0)
    assert (len(worker.table), len(copied)) == (0, 1)
    await worker.drop(Selection())
    assert not copied
