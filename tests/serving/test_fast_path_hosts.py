"""The fast path of blocks with *hosts* or *bufsize*. Replies, cache entries and metrics are those of the chain."""

from __future__ import annotations

import dns.message
import msgspec.msgpack
import pytest

from svcdns.plugins.hosts.table import read
from tests.support.outside import NAME, PLAIN, Outside, assert_same, both_ways, query, replying
from tests.support.scripted_upstream import ScriptedUpstream, held

A = f"{NAME} 300 IN A 192.0.2.1"
MANY = tuple(f"{NAME} 300 IN A 192.0.2.{number}" for number in range(1, 41))
"""More than 600 octets."""
ENTRIES = "\n192.0.2.10 node.example.org *.nodes.example.org\n"
HOSTS = "hosts /none {{" + ENTRIES + "fallthrough\n}}\n" + PLAIN
KEY = "/none ."


@pytest.mark.parametrize(
    ("body", "name", "on_fast_path"),
    [
        pytest.param(HOSTS, NAME, 1, id="no entry"),
        pytest.param(HOSTS, "Node.example.org.", 0, id="an entry"),
        pytest.param(HOSTS, "a.nodes.example.org.", 0, id="a wildcard"),
        pytest.param(HOSTS, "a.b.nodes.example.org.", 1, id="two labels below a wildcard"),
        pytest.param(HOSTS.replace("/none", "/none example.net"), NAME, 1, id="another zone"),
        pytest.param(HOSTS.replace("fallthrough", "fallthrough example.net"), NAME, 0, id="no fallthrough"),
        pytest.param("hosts /none {{\nfallthrough\n}}\nbufsize 600\n" + PLAIN, NAME, 1, id="with bufsize"),
    ],
)
@pytest.mark.parametrize("rtype", ["A", "AAAA"])
async def test_names_that_hosts_passes_on(body: str, name: str, on_fast_path: int, rtype: str) -> None:
    """Only queries that *hosts* passes on take the fast path."""
    respond = replying(f"{name.lower()} 300 IN {rtype} " + {"A": "192.0.2.1", "AAAA": "2001:db8::1"}[rtype])
    packet = query(name, rtype)
    assert_same(*await both_ways(body, respond, packet, packet, packet), on_fast_path)


@pytest.mark.parametrize("when", ["before the reply", "after the reply"])
async def test_a_change_of_the_hosts_file(when: str) -> None:
    """A reply is not stored, or is removed, if a change of the hosts file could change it."""
    file = read(["192.0.2.11 www.example.org"], (".",), reverse=True)
    content = bytes(16) + msgspec.msgpack.encode(file)
    for fast in (True, False):
        async with ScriptedUpstream(held(replying(A))) as upstream:
            with Outside(HOSTS, upstream, fast=fast) as outside:

                def change(outside: Outside = outside) -> None:
                    for changed in outside.on_data["hosts", KEY]:
                        changed(content)
                    for handler in outside.chains.handlers:
                        handler.invalidate({("hosts", KEY)})

                outside.send(query())
                await upstream.question()
                if when == "before the reply":
                    change()
                upstream.release()
                assert "192.0.2.1" in dns.message.from_wire(await outside.reply()).answer[0].to_text()
                assert len(outside.entries()) == (when == "after the reply")
                if when == "after the reply":
                    [entry] = outside.entries().values()
                    assert entry[1].dependencies == (("hosts", KEY),)
                    change()
                assert not outside.entries()
                assert "192.0.2.11" in dns.message.from_wire(await outside.ask(query())).answer[0].to_text()
                assert outside.on_fast_path == fast


@pytest.mark.parametrize(
    ("payload", "advertised", "is_cut"),
    [
        pytest.param(512, 512, True, id="less than the limit"),
        pytest.param(600, 600, True, id="the limit"),
        pytest.param(1232, 600, True, id="more than the limit"),
        pytest.param(None, None, True, id="no EDNS"),
    ],
)
async def test_payload_sizes_with_bufsize(payload: int | None, advertised: int | None, *, is_cut: bool) -> None:
    """The limit applies to the query for the upstream, and to the reply."""
    packet = query() if payload is None else query(use_edns=0, payload=payload)
    for respond, cut in ((replying(A), False), (replying(*MANY), is_cut)):
        fast, slow = await both_ways("bufsize 600\n" + PLAIN, respond, packet)
        assert_same(fast, slow, not cut)
        [(_, _, _, edns, _)] = fast.asked
        assert (None if edns is None else edns.size) == advertised
