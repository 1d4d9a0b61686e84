"""The messages of *dnstap*, on each way that a reply can take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dns.edns
import dns.message
import pytest

from svcdns.plugin_api.query import Client
from svcdns.plugins.dnstap.handler import Dnstap
from svcdns.plugins.dnstap.writer import Writer
from svcdns.wire.dnstap import DnstapMessage
from tests.support import world
from tests.support.dnstap_reader import DnstapReader
from tests.support.outside import Outside, query, replying
from tests.support.scripted_upstream import ScriptedUpstream

A = "www.example.org. 300 IN A 192.0.2.1"
PLAIN = "cache 30\nforward . {}"
ONE, TWO, THREE, FOUR = 5, 6, 7, 8
FORWARDED = [ONE, THREE, FOUR, TWO]


async def messages(path: Path, options: str, body: str, *packets: bytes) -> tuple[list[DnstapMessage], int]:
    """Returns the messages of these queries, and how many replies came from the fast path."""
    async with DnstapReader(path / "s") as reader, ScriptedUpstream(replying(A)) as upstream:
        text = f"dnstap {path / 's'} {options}\n{body}"
        with Outside(text, upstream) as outside:
            outside.chains.start()
            for packet in packets:
                await outside.ask(packet)
            outside.chains.stop()
            for one in outside.kept.values():
                if isinstance(one, Writer):
                    await one.finish()
            await reader.until(lambda: reader.finished)
            return reader.messages, outside.on_fast_path


async def test_the_fast_path_and_the_answer_table(tmp_path: Path) -> None:
    """CLIENT_QUERY is before the messages of the upstream. A stored reply has only the messages of the client."""
    found, on_fast_path = await messages(tmp_path, "full", PLAIN, *[query(ident=number) for number in range(4)])
    assert [one.kind for one in found] == FORWARDED + [ONE, TWO] * 3
    assert on_fast_path == 1
    for number, one in enumerate([*found[:1], *found[4::2]]):
        assert one.query == query(ident=number)
        assert dns.message.from_wire(one.query).id == number
    replies = [one for one in found if one.kind == TWO]
    assert [dns.message.from_wire(one.response).id for one in replies] == [0, 1, 2, 3]
    assert {dns.message.from_wire(one.response).answer[0].to_text() for one in replies} <= {
        f"www.example.org. {ttl} IN A 192.0.2.1" for ttl in range(25, 31)
    }


async def test_the_fields(tmp_path: Path) -> None:
    """The query time is the same in both messages of a client, and before the response time."""
    found, _ = await messages(tmp_path, "{{\nidentity me\nversion 1\nextra x\n}}", PLAIN, query(), query())
    assert {(one.identity, one.version, one.extra, one.zone, one.family) for one in found} == {
        (b"me", b"1", b"x", b"\0", 1)
    }
    assert {one.query_address for one in found} == {bytes((127, 0, 0, 1))}
    assert not any(one.query or one.response for one in found)
    asked, forwarded, received, answered = found[:4]
    assert asked.query_time == answered.query_time <= forwarded.query_time == received.query_time
    assert forwarded.query_time < received.response_time <= answered.response_time
    assert (forwarded.response_address, forwarded.query_port) == (bytes((127, 0, 0, 1)), received.query_port)
    assert found[4].query_time == found[5].query_time < found[5].response_time
    assert found[0].query_port == found[5].query_port != forwarded.query_port


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("cache 30\nforward . {} {{\nforce_tcp\n}}", id="over TCP"),
        pytest.param("acl {{\nallow net 127.0.0.1\n}}\n" + PLAIN, id="client classes"),
        pytest.param("rewrite name www.example.net www.example.org\n" + PLAIN, id="without a fast path"),
        pytest.param("log\n" + PLAIN, id="log"),
    ],
)
async def test_other_ways(tmp_path: Path, body: str) -> None:
    found, _ = await messages(tmp_path, "full", body, *[query(ident=number) for number in range(5)])
    assert [one.kind for one in found] == FORWARDED + [ONE, TWO] * 4
    assert [one.query for one in found if one.kind == ONE] == [query(ident=number) for number in range(5)]
    assert found[1].protocol == (2 if "force_tcp" in body else 1)


async def test_a_query_with_a_cookie_is_whole(tmp_path: Path) -> None:
    packets = [
        query(ident=number, options=[dns.edns.GenericOption(dns.edns.COOKIE, b"12345678")], payload=1232)
        for number in range(4)
    ]
    for body in (PLAIN, "acl {{\nallow net 127.0.0.1\n}}\n" + PLAIN):
        found, _ = await messages(tmp_path, "full", body, *packets)
        assert [one.query for one in found if one.kind == ONE] == packets
        (tmp_path / "s").unlink(missing_ok=True)


async def test_metadata_in_extra(tmp_path: Path) -> None:
    """The upstream is known in the messages after its reply. A stored reply has the metadata of the first one."""
    options = '{{\nextra "{{name}} {{>id}} {{rcode}} {{/forward/upstream}}"\n}}\nmetadata'
    found, on_fast_path = await messages(tmp_path, options, PLAIN, *[query(ident=number) for number in range(4)])
    assert not on_fast_path
    assert [one.kind for one in found] == FORWARDED + [ONE, TWO] * 3
    assert [one.extra.decode().split()[:3] for one in found if one.kind == ONE] == [
        ["www.example.org.", str(number), "-"] for number in range(4)
    ]
    assert found[0].extra.endswith(b" -")
    assert b" 127.0.0.1:" in found[3].extra


async def test_placeholders_without_metadata_keep_the_fast_path(tmp_path: Path) -> None:
    found, on_fast_path = await messages(tmp_path, '{{\nextra "{{name}} {{type}}"\n}}', PLAIN, query(), query())
    assert on_fast_path == 1
    assert {one.extra for one in found} == {b"www.example.org. A"}


async def test_a_query_without_a_reply(tmp_path: Path) -> None:
    async with DnstapReader(tmp_path / "s") as reader:
        with Outside(f"dnstap {tmp_path / 's'}\nacl {{{{\ndrop net 127.0.0.1\n}}}}\nwhoami") as outside:
            outside.chains.start()
            outside.client.sendto(query(), outside.sock.getsockname())
            outside.reader.drain()
            outside.chains.stop()
            await asyncio.gather(*(one.finish() for one in outside.kept.values() if isinstance(one, Writer)))
            await reader.until(lambda: reader.finished)
            assert [one.kind for one in reader.messages] == [ONE]


async def test_several_outputs(tmp_path: Path) -> None:
    async with DnstapReader(tmp_path / "t") as other:
        body = f"dnstap {tmp_path / 't'}\n{PLAIN}"
        found, _ = await messages(tmp_path, "full", body, query())
        assert [one.kind for one in found] == FORWARDED
        assert [one.kind for one in await other.messages_of(4)] == FORWARDED
        assert (bool(found[0].query), bool(other.messages[0].query)) == (True, False)


@pytest.mark.parametrize(
    ("transport", "protocol", "number"),
    [
        ("dns", "udp", 1),
        ("dns", "tcp", 2),
        ("tls", "tcp", 3),
        ("https", "tcp", 4),
        ("https3", "udp", 4),
        ("quic", "udp", 7),
        ("grpc", "tcp", 2),
    ],
)
async def test_transports(transport: str, protocol: str, number: int, tmp_path: Path) -> None:
    """The protocol is that of the listener, whatever carries its connections."""
    async with DnstapReader(tmp_path / "s") as reader:
        kept: dict[object, Writer] = {}
        environment = world.environment(kept=lambda key, make: kept.setdefault(key, make()))
        plugin = Dnstap(world.options("dnstap", f"dnstap {tmp_path / 's'}"), environment)
        plugin.start()
        client = Client("192.0.2.1", 40000, "192.0.2.53", 53, protocol)
        for tap in plugin.taps(b"\4test\0", transport):
            tap.exchanged(query(), query(), client, 1.0, None)
        await next(iter(kept.values())).finish()
        await reader.until(lambda: reader.finished)
        assert {(one.protocol, one.zone, one.query_port) for one in reader.messages} == {(number, b"\4test\0", 40000)}
