"""Resolving host names with given name servers."""

from __future__ import annotations

import asyncio

import dns.message
import dns.rdatatype
import pytest

from svcdns.upstream import blocking_resolver
from svcdns.upstream.blocking_resolver import ResolveError, addresses_of
from tests.support.scripted_upstream import ScriptedUpstream, answer, silence

A = "host.example.org. 60 IN A 192.0.2.1"
AAAA = "host.example.org. 60 IN AAAA 2001:db8::1"
ALIAS = "host.example.org. 60 IN CNAME other.example.org."


def by_type(query: dns.message.Message, transport: str) -> list[bytes] | bytes | None:
    """Returns a different answer for each query type. The first answer has a CNAME record."""
    rtype = query.question[0].rdtype
    return answer(*((ALIAS, A) if rtype == dns.rdatatype.A else (AAAA,)))(query, transport)


async def found(*servers: ScriptedUpstream) -> list[str]:
    """Returns the host's addresses. The call blocks, so it runs in a thread."""
    return await asyncio.to_thread(addresses_of, "host.example.org", [("127.0.0.1", server.port) for server in servers])


async def test_both_families() -> None:
    """IPv4 addresses come first. Other records are ignored."""
    async with ScriptedUpstream(by_type) as server:
        assert await found(server) == ["192.0.2.1", "2001:db8::1"]


async def test_the_next_server_is_queried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_resolver, "TIMEOUT", 0.05)
    async with ScriptedUpstream(silence) as silent, ScriptedUpstream() as empty, ScriptedUpstream(by_type) as server:
        assert await found(silent, empty, server) == ["192.0.2.1", "2001:db8::1"]


async def test_one_family_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the query for one address family fails, the addresses of the other are returned."""
    monkeypatch.setattr(blocking_resolver, "TIMEOUT", 0.05)
    async with ScriptedUpstream(
        lambda q, t: by_type(q, t) if q.question[0].rdtype == dns.rdatatype.A else None
    ) as server:
        assert await found(server) == ["192.0.2.1"]


async def test_replies_to_other_queries_are_dropped() -> None:
    def forged(query: dns.message.Message, transport: str) -> list[bytes]:
        true = by_type(query, transport)
        assert isinstance(true, bytes)
        return [bytes((true[0] ^ 1,)) + true[1:], b"\0", true]

    async with ScriptedUpstream(forged) as server:
        assert await found(server) == ["192.0.2.1", "2001:db8::1"]


async def test_no_server_has_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_resolver, "TIMEOUT", 0.05)
    async with ScriptedUpstream() as empty, ScriptedUpstream(silence) as silent:
        with pytest.raises(ResolveError, match=r"^no addresses found for host.example.org$"):
            await found(empty)
        with pytest.raises(
            ResolveError, match=rf"no addresses found for host.example.org: 127.0.0.1:{silent.port}: i/o timeout"
        ):
            await found(silent)


def test_without_servers_the_system_resolves() -> None:
    assert "127.0.0.1" in addresses_of("localhost")
    with pytest.raises(ResolveError, match="no addresses found for"):
        addresses_of("host.invalid.")
