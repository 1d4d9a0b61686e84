"""The plugin `erratic` (docs/plugins/erratic.md)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.reply import NOT_REUSABLE, Reply
from svcdns.plugins.erratic import LARGE, Erratic, Options
from svcdns.wire.codes import AA, RD, TC
from tests.support import world


def plugin(drop: int = 0, delay: int = 0, truncate: int = 0, duration: float = 0.1) -> Erratic:
    """Returns a plugin; by default it drops no queries."""
    return Erratic(Options(drop, delay, truncate, duration), world.environment())


def ask(handler: Erratic, rtype: str = "A") -> Reply:
    """Returns the reply to a query."""
    return world.now(handler.handle(world.query("Www.example.org.", rtype), world.following()))


@pytest.mark.parametrize(
    ("rtype", "expected"),
    [
        pytest.param("A", ["NOERROR", "Www.example.org. 0 IN A 192.0.2.53"], id="A"),
        pytest.param("AAAA", ["NOERROR", "Www.example.org. 0 IN AAAA 2001:db8::53"], id="AAAA"),
        pytest.param("TXT", ["SERVFAIL"], id="another type"),
    ],
)
def test_answers(rtype: str, expected: list[str]) -> None:
    """A and AAAA have an address of the documentation networks, and other types get SERVFAIL. No reply is reused."""
    reply = ask(plugin(), rtype)
    assert world.summary(reply) == expected
    assert reply.lifetime == NOT_REUSABLE
    assert reply.flags == (AA | RD if reply.has_message else 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(Options(), "DaDaDaDa", id="by default every second query is dropped"),
        pytest.param(Options(drop=3), "DaaDaaDa", id="one of three is dropped"),
        pytest.param(Options(drop=0, truncate=1), "TaTaTaTa", id="truncate 1, as recorded from CoreDNS"),
        pytest.param(Options(drop=0, truncate=2), "TTaaTTaa", id="truncate 2, as recorded from CoreDNS"),
        pytest.param(Options(drop=4, truncate=2), "DTaaDTaa", id="both"),
    ],
)
def test_which_queries_are_dropped_and_truncated(options: Options, expected: str) -> None:
    """The number of the query decides: D stands for dropped, T for truncated."""
    handler = Erratic(options, world.environment())
    found = [ask(handler) for _ in expected]
    assert "".join("D" if one.dropped else "T" if one.flags & TC else "a" for one in found) == expected


async def test_delayed_answers() -> None:
    """One query in so many is answered later."""
    handler = plugin(delay=2, duration=0)
    late = handler.handle(world.query("x.", "A"), world.following())
    assert isinstance(late, Deferred)
    assert not late.settled
    assert isinstance(handler.handle(world.query("x.", "A"), world.following()), Reply)
    assert world.summary(await world.soon(late))[0] == "NOERROR"


def test_a_zone_transfer() -> None:
    """AXFR gets a small zone. If the reply is truncated, the SOA record at the end is missing."""
    handler = plugin(truncate=1)
    zones = []
    for _ in range(2):
        reply = ask(handler, "AXFR")
        assert reply.stream is not None
        zones.append([line.split()[3] for line in world.shown(r for portion in reply.stream for r in portion)])
    assert zones == [["SOA", "NS", "NS", "AAAA", "AAAA"], ["SOA", "NS", "NS", "AAAA", "AAAA", "SOA"]]


def test_large_answers() -> None:
    """With `large`, answers for A have many records."""
    handler = Erratic(world.options("erratic", "erratic {\n large\n drop 0\n}"), world.environment())
    assert (len(ask(handler).answer), len(ask(handler, "AAAA").answer)) == (LARGE, 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("", Options(2), id="default"),
        pytest.param("drop 2\n delay 3 1ms", Options(2, 3, 0, 0.001), id="drop and delay"),
        pytest.param("truncate 2\n delay 3 1ms", Options(0, 3, 2, 0.001), id="drop is off with other options"),
        pytest.param("drop 3\n delay", Options(3, 2, 0, 0.1), id="the defaults of delay"),
        pytest.param("drop\n truncate", Options(0, 0, 2), id="drop without a number does not count"),
        pytest.param("delay 2 -5s", Options(0, 2, 0, 0.0), id="a negative delay is none"),
    ],
)
def test_reads_options(body: str, expected: Options) -> None:
    """Each option has a default."""
    assert world.options("erratic", f"erratic {{\n {body}\n}}") == expected


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param("drop -1", '3:7 illegal amount value given "-1"', id="negative"),
        pytest.param("delay 1 2s 4", "3:13 Wrong argument count", id="too many words"),
        pytest.param("delay 15.a", "3:8 '15.a' is not a whole number", id="no number"),
        pytest.param("delay 3 bla", "3:10 'bla' is not a duration", id="no duration"),
        pytest.param("truncate 2147483648", "3:11 2147483648 is out of range", id="too large"),
        pytest.param("something-else", "3:2 unknown property 'something-else'", id="unknown"),
    ],
)
def test_rejected_options(body: str, error: str) -> None:
    """Each invalid option is an error with the position of the word at fault."""
    assert world.rejection("erratic", f"erratic {{\n {body}\n}}").startswith(error)


def test_it_is_always_ready() -> None:
    """The plugin is ready before the first query, and after any number of queries."""
    handler = plugin(drop=2)
    for _ in range(6):
        assert handler.ready()
        ask(handler)
