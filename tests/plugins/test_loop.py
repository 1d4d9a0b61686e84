"""The plugin `loop` (spec C-loop)."""

from __future__ import annotations

from svcdns.chain.query import Query
from svcdns.plugins.loop import Loop, Options, gather
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from tests.support import world
from tests.support.scripted_upstream import ScriptedUpstream

PROBE = b"1.2.example.org."


def loop(fatal: list[str], port: int = 53) -> Loop:
    """The plugin for one zone."""
    data = {("loop", "example.org."): PROBE}
    return Loop(
        Options("example.org."),
        world.environment(data=lambda plugin, key: data.get((plugin, key)), fatal=fatal.append, listen_addresses=(("127.0.0.1", port),)),
    )


def probe(name: bytes = PROBE, rtype: str = "HINFO") -> Query:
    """A question for the probe's name."""
    return world.query(name.decode(), rtype)


def test_the_third_sighting_ends_the_server() -> None:
    """Once by us, once more by a repetition; then it is a loop. It is said once."""
    fatal: list[str] = []
    plugin = loop(fatal)
    for _ in range(2):
        world.now(plugin.handle(probe(), world.following()))
    assert not fatal
    for _ in range(3):
        world.now(plugin.handle(probe(), world.following()))
    assert fatal == [
        'plugin/loop: Loop (192.0.2.1:40000 -> 192.0.2.53:53) detected for zone "example.org.", see docs/plugins/loop.md. '
        'Query: "HINFO 1.2.example.org."'
    ]


def test_other_questions_pass() -> None:
    """Neither other names nor other types count."""
    fatal: list[str] = []
    plugin = loop(fatal)
    for _ in range(5):
        reply = world.now(plugin.handle(probe(rtype="A"), world.following()))
        world.now(plugin.handle(probe(b"2.1.example.org."), world.following()))
    assert reply.rcode == Rcode.SERVFAIL
    assert not fatal


def test_after_a_stop_nothing_counts() -> None:
    """The chain that is replaced does not look any more."""
    fatal: list[str] = []
    plugin = loop(fatal)
    plugin.stop()
    for _ in range(5):
        world.now(plugin.handle(probe(), world.following()))
    assert not fatal


async def test_asks_itself_until_it_is_answered() -> None:
    """The probe goes to the block's own address; an answer ends it."""
    async with ScriptedUpstream() as upstream:
        plugin = loop([], upstream.port)
        plugin.start()
        asked = await upstream.question()
        assert (asked.name, asked.rtype) == (names.from_text(PROBE.decode()), 13)
        assert plugin._task is not None
        await plugin._task
        assert not plugin._active


def test_the_probe_is_made_once_for_each_zone() -> None:
    """Two random numbers below the zone; workers and reloads share it."""
    made = gather(Options("example.org."), {})
    assert made["example.org."].endswith(b".example.org.")
    assert gather(Options("example.org."), made) == made
    assert gather(Options("."), {})["."].count(b".") == 2


def test_takes_no_words() -> None:
    """And stands once in a block."""
    assert world.options("loop", "loop", zones="a.b") == Options("a.b.")
    assert world.rejection("loop", "loop twice").startswith("2:6 Wrong argument count")
    assert world.rejection("loop", "loop\nloop").startswith("3:1 plugin/loop: this plugin can only be used once")
