"""Two servers are asked the same queries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.message
import dns.rrset
import pytest

from svcdns.shadow import run
from svcdns.shadow.asking import Received, asking
from svcdns.shadow.comparison import Kind
from svcdns.shadow.queries import Queries

Answers = Callable[[str, int], str | None]


class Fake(asyncio.DatagramProtocol):
    """A server that answers with the address that a function gives for a name and the number of the query."""

    def __init__(self, answers: Answers) -> None:
        self.answers, self.asked = answers, 0

    def connection_made(self, transport: Any) -> None:
        """Keeps the socket."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Answers a query, or stays silent."""
        query = dns.message.from_wire(data)
        address = self.answers(query.question[0].name.to_text(), self.asked)
        self.asked += 1
        if address is not None:
            reply = dns.message.make_response(query)
            reply.answer.append(dns.rrset.from_text(query.question[0].name, 30, "IN", "A", address))
            self.transport.sendto(reply.to_wire(), addr)


@contextlib.asynccontextmanager
async def serving(answers: Answers) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Fake(answers), ("127.0.0.1", 0))
    yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    transport.close()


async def outcome_of(
    first: Answers, second: Answers, names: str, *, timeout: float = 10.0, **options: float
) -> run.Outcome:
    async with (
        serving(first) as reference,
        serving(second) as candidate,
        asking(reference, timeout, 1) as one,
        asking(candidate, timeout, 1) as other,
    ):
        return await run.compare(Queries(names.encode()), one, other, **{"limit": 0.0, "rate": 0.0, **options})


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "AGAIN", 0.0)


def same(_name: str, _number: int) -> str:
    return "10.0.0.1"


async def test_equal_servers() -> None:
    names = "".join(f"n{number}.test A\n" for number in range(200))
    outcome = await outcome_of(same, same, names)
    assert (outcome.compared, outcome.different, dict(outcome.kinds)) == (200, 0, {})
    assert len(outcome.reference_seconds) == len(outcome.candidate_seconds) == 200
    assert 0 < outcome.percentile(outcome.reference_seconds, 0.5) < 1000


async def test_each_kind_has_a_count_and_an_example() -> None:
    def other(name: str, _number: int) -> str | None:
        return None if name.startswith("silent") else "10.0.0.2" if name.startswith("other") else "10.0.0.1"

    outcome = await outcome_of(same, other, "same.test A\nother1.test A\nother2.test A\nsilent.test A\n", timeout=0.5)
    assert (outcome.compared, outcome.different) == (4, 3)
    assert dict(outcome.kinds) == {Kind.ANSWER: 2, Kind.NO_REPLY: 1}
    question, text = outcome.examples[Kind.ANSWER]
    assert question.startswith("other")
    assert text.endswith("30 IN A 10.0.0.2")


async def test_a_difference_that_goes_away_is_transient() -> None:
    outcome = await outcome_of(same, lambda _name, number: "10.0.0.1" if number else "10.0.0.2", "a.test A\n")
    assert (outcome.different, outcome.transient) == (0, 1)


class Double:
    """A server whose replies come at once, or when as many queries were asked as `opens` says."""

    def __init__(self, reply: bytes | None, opens: int = 0) -> None:
        self.reply, self.opens, self.asked, self.open = reply, opens, 0, asyncio.Event()

    async def ask(self, _query: bytes) -> Received:
        """Returns the reply."""
        self.asked += 1
        if self.asked >= self.opens:
            self.open.set()
        await self.open.wait()
        return Received(self.reply, 0.001)


async def compared(reference: Any, candidate: Any, count: int) -> run.Outcome:
    async with asyncio.timeout(30):
        return await run.compare([b"query"] * count, reference, candidate, limit=0.0, rate=0.0)


async def test_queries_that_are_asked_again_do_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2 * run.TOGETHER
    candidate = Double(None)

    async def pause() -> None:
        while candidate.asked < count:
            await asyncio.sleep(0)

    monkeypatch.setattr(run, "_pause", pause)
    outcome = await compared(Double(b"reply"), candidate, count)
    assert (outcome.compared, outcome.different, candidate.asked) == (count, count, 2 * count)


async def test_slow_queries_do_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply arrives before all queries were sent."""
    monkeypatch.setattr(run, "SLOW", 0.0)
    count = run.TOGETHER + run.SLOW_QUERIES
    outcome = await compared(Double(b"reply"), Double(b"reply", opens=count), count)
    assert (outcome.compared, outcome.different) == (count, 0)


async def test_the_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, *(number * 1.0 for number in range(1000))])
    monkeypatch.setattr("svcdns.shadow.run.time.monotonic", lambda: next(now))
    take, found = run._timed([b"x"] * 100, 5.0), 0
    while await take() is not None:
        found += 1
    assert 1 <= found < 10


async def test_the_rate_is_limited() -> None:
    names = "".join(f"n{number}.test A\n" for number in range(21))
    loop = asyncio.get_running_loop()
    started = loop.time()
    await outcome_of(same, same, names, rate=200.0)
    assert loop.time() - started > 0.09
