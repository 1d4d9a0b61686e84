"""One question to one server."""

from __future__ import annotations

import dns.message
import pytest

from svcdns.upstream.exchange import ExchangeError, Question, TcpConnection, over_udp, shown
from svcdns.wire import names
from svcdns.wire.codes import RD, TC
from tests.support.scripted_upstream import ScriptedUpstream, answer, silence

QUESTION = Question(names.from_text("a.example.org."), 1, 1, RD)
A = answer("a.example.org. 60 IN A 192.0.2.1")


async def test_over_udp() -> None:
    """The reply that belongs to the question."""
    async with ScriptedUpstream(A) as upstream:
        message = await over_udp(QUESTION, ("127.0.0.1", upstream.port), 5)
        assert len(message.answer) == 1


async def test_silence_is_a_time_out() -> None:
    """After the time given."""
    async with ScriptedUpstream(silence) as upstream:
        with pytest.raises(ExchangeError, match="i/o timeout"):
            await over_udp(QUESTION, ("127.0.0.1", upstream.port), 0.02)


async def test_a_closed_port_is_noticed_at_once() -> None:
    """By the kernel's word, not by a time-out."""
    async with ScriptedUpstream() as upstream:
        upstream.close()
        with pytest.raises(ExchangeError, match="connection refused"):
            await over_udp(QUESTION, ("127.0.0.1", upstream.port), 60)
        with pytest.raises(ExchangeError, match="connect"):
            await TcpConnection.connect(("127.0.0.1", upstream.port), 60)


async def test_a_reply_that_is_cut_off_counts_as_truncated() -> None:
    """Its header and question are enough to know whose it is."""

    def cut(query: dns.message.Message, transport: str) -> bytes:
        packet = A(query, transport)
        assert isinstance(packet, bytes)
        return packet[:-3]

    async with ScriptedUpstream(cut) as upstream:
        message = await over_udp(QUESTION, ("127.0.0.1", upstream.port), 5)
        assert message.flags & TC
        assert message.answer == ()


async def test_over_tcp_several_questions() -> None:
    """On one connection; one that was closed says so."""
    async with ScriptedUpstream(A) as upstream:
        connection = await TcpConnection.connect(("127.0.0.1", upstream.port), 5)
        for _ in range(3):
            assert len((await connection.ask(QUESTION, 5)).answer) == 1
        assert upstream.connections == 1
        upstream.hang_up()
        with pytest.raises(ExchangeError, match="connection ended"):
            await connection.ask(QUESTION, 5)
        assert connection.closed


async def test_silence_over_tcp_ends_the_connection() -> None:
    """A reply that comes later must not be taken for the next question's."""
    async with ScriptedUpstream(silence) as upstream:
        connection = await TcpConnection.connect(("127.0.0.1", upstream.port), 5)
        with pytest.raises(ExchangeError, match="i/o timeout"):
            await connection.ask(QUESTION, 0.02)
        assert connection.closed


async def test_a_source_address_that_is_not_ours() -> None:
    """Is an error of this exchange, no more."""
    async with ScriptedUpstream(A) as upstream:
        with pytest.raises(ExchangeError, match="cannot assign"):
            await over_udp(QUESTION, ("127.0.0.1", upstream.port), 5, "192.0.2.77")


def test_shown() -> None:
    """IPv6 in brackets."""
    assert (shown(("192.0.2.1", 53)), shown(("::1", 5353))) == ("192.0.2.1:53", "[::1]:5353")
