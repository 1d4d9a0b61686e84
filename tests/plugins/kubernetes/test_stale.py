"""Replies from stale data, which the API server has not confirmed for `stale_after` (RFC 8914 §4.4)."""

from __future__ import annotations

import logging

import pytest

from svcdns.cluster.changes import Confirmed
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import ExtendedError
from tests.plugins.kubernetes.fixture import ask, index, plugin
from tests.support import world

NAMES = [
    pytest.param("web.d.svc.cluster.local.", "A", id="positive"),
    pytest.param("web.d.svc.cluster.local.", "AAAA", id="NODATA"),
    pytest.param("x.d.svc.cluster.local.", "A", id="name error"),
    pytest.param("ext.d.svc.cluster.local.", "A", id="external name"),
    pytest.param("cluster.local.", "SOA", id="SOA"),
]


@pytest.mark.parametrize(("name", "rtype"), NAMES)
def test_replies_from_stale_data_have_an_extended_error(name: str, rtype: str) -> None:
    """Nothing else in the reply differs. When data becomes stale or fresh, all stored replies are invalidated."""
    clock, found, invalidated = world.Clock(), index(), []
    handler = plugin("stale_after 60s", found, clock=clock, invalidate_all=lambda: invalidated.append(clock.now))
    handler.start()
    replies: list[Reply] = []
    for confirmed, now in ((1000.0, 1000.0), (1000.0, 1060.0), (1000.0, 1060.5), (1000.0, 1070.0), (1065.0, 1071.0)):
        found.apply(Confirmed(confirmed))
        clock.now = now
        handler.tick()
        replies.append(ask(handler, name, rtype))
    stale = ExtendedError.STALE_ANSWER
    assert [reply.extended for reply in replies] == [None, None, stale, stale, None]
    assert invalidated == [1060.5, 1071.0]
    assert [world.summary(reply) for reply in replies] == [world.summary(replies[0])] * 5


def test_replies_from_an_old_snapshot_have_the_extended_error() -> None:
    found = index()
    found.apply(Confirmed(-5000.0))
    handler = plugin("", found, clock=world.Clock())
    handler.start()
    assert ask(handler, "web.d.svc.cluster.local.").extended == ExtendedError.STALE_ANSWER


@pytest.mark.parametrize(
    ("options", "synced", "confirmed"),
    [
        pytest.param("stale_after 0", True, -1e9, id="switched off"),
        pytest.param("", False, -1e9, id="the cluster was never listed"),
        pytest.param("", True, None, id="unknown age"),
    ],
)
def test_replies_without_the_extended_error(options: str, synced: bool, confirmed: float | None) -> None:
    """`stale_after` is 0, or the age of the data is unknown."""
    clock, found = world.Clock(), index(synced=synced)
    if confirmed is not None:
        found.apply(Confirmed(confirmed))
    handler = plugin(options, found, clock=clock)
    clock.turn(1e9)
    handler.tick()
    assert ask(handler, "web.d.svc.cluster.local.").extended is None
    assert ask(handler, "x.d.svc.cluster.local.").extended is None


@pytest.mark.parametrize("first", [True, False])
def test_the_first_worker_logs_each_change_once(first: bool, caplog: pytest.LogCaptureFixture) -> None:
    clock, found = world.Clock(), index()
    handler = plugin("stale_after 60s", found, clock=clock, first=first)
    caplog.set_level(logging.INFO)
    for confirmed, now in ((1000.0, 1000.0), (1000.0, 1061.0), (1000.0, 1062.0), (1062.0, 1063.0), (1062.0, 1064.0)):
        found.apply(Confirmed(confirmed))
        clock.now = now
        handler.tick()
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert lines == first * [
        (logging.WARNING, "the state of the cluster is stale age_seconds=61 stale_after_seconds=60"),
        (logging.INFO, "the state of the cluster is fresh again"),
    ]
