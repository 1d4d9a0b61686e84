"""Queries to upstreams over persistent TCP connections."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Awaitable

import dns.message
import pytest

from svcdns.eventloop.clock import Clock, monotonic
from svcdns.upstream.query import Dropped, ExchangeError, Received, SpoofedError, UpstreamQuery, as_message
from svcdns.upstream.tcp import (
    MAX_CONNECTIONS,
    MAX_DROPPED,
    MAX_PIPELINED,
    MAX_RESENDS_UNANSWERED,
    ConnectionOptions,
    TcpQuery,
    UpstreamConnections,
    tcp_connector,
)
from svcdns.wire import names
from svcdns.wire.codes import RD
from tests.support import world
from tests.support.scripted_upstream import ScriptedUpstream, answer, held, silence


def numbered(query: dns.message.Message, transport: str) -> list[bytes] | bytes | None:
    """Returns an address whose last octet is the number in the query name."""
    name = query.question[0].name
    return answer(f"{name} 60 IN A 192.0.2.{name.labels[0].decode()}")(query, transport)


def query(number: int) -> UpstreamQuery:
    """Returns a query that `numbered` answers."""
    return UpstreamQuery(names.from_text(f"{number}.example."), 1, 1, RD)


class Querying:
    """TCP connections to a scripted server, and the reasons for dropped messages."""

    def __init__(
        self, upstream: ScriptedUpstream, keeping: ConnectionOptions | None = None, clock: Clock = monotonic
    ) -> None:
        address = ("127.0.0.1", upstream.port)
        self.dropped: list[Dropped] = []
        self.connections = UpstreamConnections(
            address, keeping or ConnectionOptions(), clock, tcp_connector(address), self._note
        )

    def _note(self, reason: Dropped, _sent: TcpQuery | None) -> None:
        self.dropped.append(reason)

    def ask(self, number: int) -> Awaitable[Received | ExchangeError]:
        """Sends a query, and returns the reply or the error."""
        done = asyncio.get_running_loop().create_future()
        self.connections.send(query(number), done.set_result)
        return asyncio.wait_for(done, 10)


def number_of(outcome: Received | ExchangeError) -> int:
    """Returns the last octet of the address in the answer."""
    assert not isinstance(outcome, ExchangeError)
    return as_message(outcome).answer[0].rdata[-1]


async def test_replies_out_of_order() -> None:
    async with ScriptedUpstream(held(numbered)) as upstream:
        asking = Querying(upstream)
        waiting = [asyncio.ensure_future(asking.ask(number)) for number in range(50)]
        while upstream.holds < 50:
            await asyncio.sleep(0)
        upstream.release(backwards=True)
        assert [number_of(outcome) for outcome in await asyncio.gather(*waiting)] == list(range(50))
        assert upstream.connections == 1
        asking.connections.stop()


async def test_more_connections_if_one_is_full() -> None:
    async with ScriptedUpstream(held(numbered)) as upstream:
        asking = Querying(upstream)
        count = MAX_PIPELINED * MAX_CONNECTIONS + 5
        waiting = [asyncio.ensure_future(asking.ask(number % 250)) for number in range(count)]
        while upstream.holds < count:
            await asyncio.sleep(0)
        assert upstream.connections == len(asking.connections) == MAX_CONNECTIONS
        upstream.release()
        assert [number_of(outcome) for outcome in await asyncio.gather(*waiting)] == [
            number % 250 for number in range(count)
        ]
        asking.connections.stop()


async def test_an_idle_connection_that_the_server_closed_is_replaced() -> None:
    async with ScriptedUpstream(numbered) as upstream:
        asking = Querying(upstream)
        await asking.ask(1)
        upstream.hang_up()
        assert number_of(await asking.ask(2)) == 2
        assert upstream.connections == 2
        asking.connections.stop()


async def test_queries_on_a_connection_that_ends_are_sent_again() -> None:
    async with ScriptedUpstream() as upstream:
        closing: list[bool] = []

        def end() -> None:
            upstream.hang_up()
            upstream.respond = numbered

        def first_alone(query: dns.message.Message, transport: str) -> list[bytes] | bytes | None:
            if closing:
                return None
            closing.append(True)
            asyncio.get_running_loop().call_soon(end)
            return numbered(query, transport)

        upstream.respond = first_alone
        asking = Querying(upstream)
        outcomes = await asyncio.gather(*(asking.ask(number) for number in range(1, 7)))
        assert [number_of(outcome) for outcome in outcomes] == list(range(1, 7))
        assert asking.connections._max_pipelined == 1
        asking.connections.stop()


async def test_a_server_that_closes_every_connection_fails_the_query() -> None:
    async with ScriptedUpstream() as upstream:

        def hanging_up(_query: dns.message.Message, _transport: str) -> None:
            upstream.hang_up()

        upstream.respond = hanging_up
        asking = Querying(upstream)
        outcome = await asking.ask(1)
        assert isinstance(outcome, ExchangeError)
        assert "connection ended" in str(outcome)
        assert upstream.connections == 1 + MAX_RESENDS_UNANSWERED
        asking.connections.stop()


async def test_a_closed_port() -> None:
    """All queries that wait for the connection fail."""
    async with ScriptedUpstream() as upstream:
        upstream.close()
        asking = Querying(upstream)
        outcomes = await asyncio.gather(asking.ask(1), asking.ask(2))
        assert all(isinstance(outcome, ExchangeError) for outcome in outcomes)
        assert not any(outcome.timed_out for outcome in outcomes if isinstance(outcome, ExchangeError))
        assert len(asking.connections) == 0


async def test_a_connection_that_takes_too_long_to_open() -> None:
    async def never(_factory: object) -> object:
        return await asyncio.get_running_loop().create_future()

    done = asyncio.get_running_loop().create_future()
    UpstreamConnections(("127.0.0.1", 9), ConnectionOptions(connect_timeout=0.01), monotonic, never).send(
        query(1), done.set_result
    )
    outcome = await asyncio.wait_for(done, 10)
    assert isinstance(outcome, ExchangeError)
    assert outcome.timed_out


async def test_other_messages_are_dropped() -> None:
    def lying(query: dns.message.Message, transport: str) -> list[bytes]:
        true = numbered(query, transport)
        assert isinstance(true, bytes)
        other = numbered(dns.message.make_query("9.example.", "A", id=query.id), transport)
        assert isinstance(other, bytes)
        return [bytes((true[0] ^ 1,)) + true[1:], other, query.to_wire(), b"", true]

    async with ScriptedUpstream(lying) as upstream:
        asking = Querying(upstream)
        assert number_of(await asking.ask(1)) == 1
        assert asking.dropped == ["id", "question", "query", "malformed"]
        asking.connections.stop()


async def test_a_flood_of_other_messages_closes_the_connection() -> None:
    def flooding(query: dns.message.Message, _transport: str) -> list[bytes] | None:
        second = query.question[0].name.labels[0] == b"2"
        return [b"\0" * 12] * (MAX_DROPPED + 9) if second else None

    async with ScriptedUpstream(flooding) as upstream:
        asking = Querying(upstream)
        outcomes = await asyncio.gather(asking.ask(1), asking.ask(2))
        assert [type(outcome) for outcome in outcomes] == [SpoofedError, SpoofedError]
        assert asking.dropped == ["id"] * MAX_DROPPED
        assert len(asking.connections) == 0
        asking.connections.stop()


async def test_a_message_without_an_open_query_is_dropped() -> None:
    async with ScriptedUpstream(lambda query, by: [b"", *_twice(query, by)]) as upstream:
        asking = Querying(upstream)
        assert number_of(await asking.ask(1)) == 1
        async with asyncio.timeout(10):
            while len(asking.dropped) < 2:
                await asyncio.sleep(0)
        assert asking.dropped == ["malformed", "id"]
        asking.connections.stop()


def _twice(query: dns.message.Message, transport: str) -> list[bytes]:
    """Returns the reply twice."""
    found = numbered(query, transport)
    assert isinstance(found, bytes)
    return [found, found]


async def test_a_reply_in_single_octets() -> None:
    async with ScriptedUpstream(held(numbered)) as upstream:
        asking = Querying(upstream)
        waiting = asyncio.ensure_future(asking.ask(1))
        while not upstream.holds:
            await asyncio.sleep(0)
        (connection,) = asking.connections._open
        (sent,) = connection.open_queries.values()
        reply = numbered(dns.message.from_wire(sent.query.packet(sent.ident)), "tcp")
        assert isinstance(reply, bytes)
        for octet in len(reply).to_bytes(2, "big") + reply:
            assert not waiting.done()
            connection.data_received(bytes((octet,)))
        assert number_of(await waiting) == 1
        asking.connections.stop()


def unexpected(outcome: Received | ExchangeError) -> None:
    """Fails the test, because a cancelled query must have no outcome."""
    pytest.fail(f"it came: {outcome!r}")


async def test_a_late_reply_is_not_counted() -> None:
    async with ScriptedUpstream(held(numbered)) as upstream:
        asking = Querying(upstream)
        sent, _ = asking.connections.send(query(1), unexpected)
        while not upstream.holds:
            await asyncio.sleep(0)
        asking.connections.cancel(sent, timed_out=False)
        upstream.respond = numbered
        upstream.release()
        assert number_of(await asking.ask(2)) == 2
        assert (asking.dropped, upstream.connections) == ([], 1)
        asking.connections.stop()


async def test_a_connection_without_any_data_is_closed_after_a_timeout() -> None:
    async with ScriptedUpstream(silence) as upstream:
        clock = world.Clock()
        asking = Querying(upstream, clock=clock)
        sent, _ = asking.connections.send(query(1), unexpected)
        other = asyncio.ensure_future(asking.ask(2))
        await upstream.question()
        await upstream.question()
        sent.sent_at = clock() + 1
        clock.turn(2)
        upstream.respond = numbered
        asking.connections.cancel(sent, timed_out=True)
        assert number_of(await other) == 2
        assert upstream.connections == 2
        asking.connections.stop()


@pytest.mark.parametrize(
    "keeping", [ConnectionOptions(expire=10.0), ConnectionOptions(expire=100.0, max_age=10.0)], ids=["unused", "in all"]
)
async def test_connections_that_are_too_old_are_not_used(keeping: ConnectionOptions) -> None:
    """A connection is too old some time after its start, or after its last query."""
    async with ScriptedUpstream(numbered) as upstream:
        clock = world.Clock()
        asking = Querying(upstream, keeping, clock)
        for seconds in (9.0, 11.0, 0.0):
            await asking.ask(1)
            clock.turn(seconds)
        assert upstream.connections == 2
        asking.connections.stop()


async def test_a_timer_closes_each_idle_connection() -> None:
    """There is one timer, also if the connections become idle at different times."""
    async with ScriptedUpstream(held(numbered)) as upstream:
        clock = world.Clock()
        asking = Querying(upstream, ConnectionOptions(expire=10.0), clock)
        asking.connections._max_pipelined = 1
        waiting = [asyncio.ensure_future(asking.ask(number)) for number in range(2)]
        while upstream.holds < 2:
            await asyncio.sleep(0)
        upstream.release()
        await asyncio.gather(*waiting)
        upstream.respond = numbered
        timer = asking.connections._expiry
        clock.turn(6.0)
        await asking.ask(1)
        assert asking.connections._expiry is timer
        clock.turn(6.0)
        for left in (1, 0):
            timer = asking.connections._expiry
            assert timer is not None
            timer.cancel()
            asking.connections._expire()
            assert len(asking.connections) == left
            clock.turn(6.0)
        assert asking.connections._expiry is None
        asking.connections.stop()


async def test_a_reset_connection_is_the_reason_of_the_error() -> None:
    async with ScriptedUpstream(held(numbered)) as upstream:
        asking = Querying(upstream)
        asking.connections._max_pipelined = 1
        waiting = asyncio.ensure_future(asking.ask(1))
        while not upstream.holds:
            await asyncio.sleep(0)
        (connection,) = asking.connections._open
        (sent,) = connection.open_queries.values()
        sent.resent = MAX_RESENDS_UNANSWERED
        for writer in upstream._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        assert str(await waiting).endswith(f"connection ended: [Errno {errno.ECONNRESET}] Connection reset by peer")


async def test_the_source_address_of_a_connection() -> None:
    async with ScriptedUpstream(held(numbered)) as upstream:
        address = ("127.0.0.1", upstream.port)
        connections = UpstreamConnections(address, ConnectionOptions(), monotonic, tcp_connector(address, "127.0.0.2"))
        done = asyncio.get_running_loop().create_future()
        sent, existing = connections.send(query(1), done.set_result)
        while not upstream.holds:
            await asyncio.sleep(0)
        assert (sent.local_address or ("", 0))[0] == "127.0.0.2"
        upstream.release()
        assert (number_of(await done), existing) == (1, False)
        connections.stop()


async def test_the_number_of_idle_connections_is_bounded() -> None:
    async with ScriptedUpstream(held(numbered)) as upstream:
        asking = Querying(upstream, ConnectionOptions(max_idle=1))
        asking.connections._max_pipelined = 1
        waiting = [asyncio.ensure_future(asking.ask(number)) for number in range(3)]
        while upstream.holds < 3:
            await asyncio.sleep(0)
        assert len(asking.connections) == 3
        upstream.release()
        await asyncio.gather(*waiting)
        assert len(asking.connections) == 1
        asking.connections.stop()


async def test_stop_waits_for_open_queries() -> None:
    async with ScriptedUpstream(held(numbered)) as upstream:
        asking = Querying(upstream)
        waiting = asyncio.ensure_future(asking.ask(1))
        while not upstream.holds:
            await asyncio.sleep(0)
        asking.connections.stop()
        assert len(asking.connections) == 1
        upstream.release()
        assert number_of(await waiting) == 1
        assert len(asking.connections) == 0


def broken(_: Received | ExchangeError) -> None:
    raise ValueError("broken")


async def test_a_callback_that_raises_does_not_affect_other_queries() -> None:
    """The connection may be open, or may fail to open."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
    async with ScriptedUpstream(held(numbered)) as upstream:
        asking = Querying(upstream)
        asking.connections.send(query(1), broken)
        other = asyncio.ensure_future(asking.ask(2))
        while upstream.holds < 2:
            await asyncio.sleep(0)
        upstream.release()
        assert number_of(await other) == 2
        assert (reported, upstream.connections) == (["broken"], 1)
        upstream.close()
        async with asyncio.timeout(10):
            while len(asking.connections):
                await asyncio.sleep(0)
        asking.connections.send(query(1), broken)
        assert isinstance(await asking.ask(2), ExchangeError)
        assert reported == ["broken"] * 2
