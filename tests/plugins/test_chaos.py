"""The plugin *chaos* (docs/behaviour/plugins.md#chaos)."""

from __future__ import annotations

import socket

import pytest

from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugins.chaos import AUTHORS, VERSION, Chaos, Options
from svcdns.wire import names
from svcdns.wire.codes import RD, Class
from tests.support import world

NOBODY = Reply(error="went on")
EXPECTED_TEXTS = Options("v1", ("b", "a"))


def ask(name: str, rtype: str = "TXT", rclass: int = Class.CH, options: Options = EXPECTED_TEXTS) -> Reply:
    """Returns the reply of *chaos*, or NOBODY if *chaos* passed the query to the next plugin."""
    query = world.query(name, rtype, rclass=rclass)
    return world.now(world.handled(Chaos(options, world.environment().recording()), query, world.following(NOBODY)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("version.bind.", "v1", id="version.bind"),
        pytest.param("VERSION.server.", "v1", id="version.server in capitals"),
        pytest.param("hostname.bind.", socket.gethostname(), id="hostname.bind"),
        pytest.param("id.server.", socket.gethostname(), id="id.server"),
    ],
)
def test_answers_its_names(name: str, text: str) -> None:
    """The answer is one TXT record of class CH with TTL 0."""
    reply = ask(name)
    (record,) = reply.answer
    assert (record.owner, record.rclass, record.ttl) == (names.from_text(name), Class.CH, 0)
    assert record.rdata == bytes((len(text),)) + text.encode()
    assert (reply.flags, reply.lifetime) == (RD, UNTIL_CHANGED)


def test_shuffles_the_authors() -> None:
    """The order is random, so the reply is for one client only."""
    reply = ask("authors.bind.")
    assert sorted(record.rdata for record in reply.answer) == [b"\1a", b"\1b"]
    assert reply.scope is CacheScope.CLIENT


@pytest.mark.parametrize(
    ("name", "rtype", "rclass"),
    [
        pytest.param("version.bind.", "TXT", Class.IN, id="class IN"),
        pytest.param("version.bind.", "A", Class.CH, id="another type"),
        pytest.param("other.bind.", "TXT", Class.CH, id="an unknown name"),
    ],
)
def test_the_following_plugins_answer_other_names(name: str, rtype: str, rclass: int) -> None:
    assert ask(name, rtype, rclass) is NOBODY


def test_long_texts_are_cut() -> None:
    """A character string has at most 255 octets."""
    (record,) = ask("version.bind.", options=Options("x" * 300)).answer
    assert record.rdata == b"\xff" + b"x" * 255


def test_options() -> None:
    """Authors are sorted, without duplicates."""
    assert world.options("chaos", "chaos") == Options(VERSION, AUTHORS)
    assert world.options("chaos", "chaos v2") == Options("v2", AUTHORS)
    assert world.options("chaos", "chaos v2 me you me") == Options("v2", ("me", "you"))
    assert world.rejection("chaos", "chaos {\n x\n}").startswith("2:1 'chaos' takes no block")
