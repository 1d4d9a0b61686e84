"""The plugin `cancel` (docs/plugins/cancel.md)."""

from __future__ import annotations

import asyncio

import pytest

from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.cancel import Cancel, Options
from tests.support import world


def ask(timeout: float, following: Following) -> Answer:
    """Returns the answer of the plugin to a query."""
    return world.handled(Cancel(Options(timeout), world.environment()), world.query("x."), following)


def test_a_reply_that_is_there_passes() -> None:
    """A reply that need not be waited for is returned unchanged."""
    reply = Reply()
    assert ask(1.0, world.following(reply)) is reply


async def test_a_reply_in_time() -> None:
    """A reply that arrives in time is passed on."""
    later = Deferred()
    asyncio.get_running_loop().call_soon(later.set, Reply(rcode=3))
    assert (await world.soon(ask(5.0, lambda _: later))).rcode == 3


async def test_a_reply_that_is_late() -> None:
    """If there is no reply in time, the client gets SERVFAIL. A reply that arrives later is not used."""
    later = Deferred()
    reply = await world.soon(ask(0.01, lambda _: later))
    assert world.summary(reply) == ["SERVFAIL"]
    assert reply.error == "plugin/cancel: the time limit of the query is over"
    later.set(Reply())


@pytest.mark.parametrize(("timeout", "joins"), [(5.001, True), (5.0, False)])
def test_the_fast_path(timeout: float, joins: bool) -> None:
    """A block has a fast path if the limit is longer than forwarded queries take at most."""
    assert Cancel(Options(timeout), world.environment()).join_fast_path(FastPath()) is joins


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("cancel", 5.001, id="default"),
        pytest.param("cancel 1s", 1.0, id="stated"),
        pytest.param("cancel 1s\ncancel", 5.001, id="the last one counts"),
    ],
)
def test_reads_options(text: str, expected: float) -> None:
    """The time limit is a duration."""
    assert world.options("cancel", text) == Options(expected)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("cancel 5", '2:8 invalid duration: "5"', id="no unit"),
        pytest.param("cancel -1s", '2:8 invalid negative duration: "-1s"', id="negative"),
        pytest.param("cancel 0s", '2:8 invalid negative duration: "0s"', id="zero"),
        pytest.param("cancel 1s 2s", "2:11 Wrong argument count", id="two"),
    ],
)
def test_rejected_options(text: str, error: str) -> None:
    """Each invalid time limit is an error with the position of the word at fault."""
    assert world.rejection("cancel", text).startswith(error)
