"""When the accelerator may go on: only while all changes that control has sent are applied."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from svcdns.cluster.changes import Begin, Kind
from svcdns.feed.frames import Changed, Epoch, frame
from svcdns.process.channel import Channel
from svcdns.process.cookie_secrets import private_page
from svcdns.process.sample_memory import private_ring
from svcdns.telemetry.counters import Counters
from svcdns.worker import __main__ as program
from svcdns.worker.__main__ import MAX_FEED_READS, _Process

CHANGE = frame(Changed(1, Begin(Kind.SERVICE)))


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end of a feed, and control's. Each read of the worker gets one change."""
    monkeypatch.setattr(program, "FEED_CHUNK", len(CHANGE))
    worker, control = socket.socketpair()
    with control:
        yield worker, control


async def test_all_changes_must_be_applied(pair: tuple[socket.socket, socket.socket]) -> None:
    feed, control = pair
    supervisor, mine = socket.socketpair()
    with supervisor, mine:
        process = _Process(0, Channel(mine), Counters(), private_page(), private_ring)
        assert not process._is_current()
        process._take_feed(feed)
        assert process._is_current()
        control.send(CHANGE)
        assert process._is_current()
        with pytest.raises(BlockingIOError):
            feed.recv(1)
        control.send(CHANGE * (MAX_FEED_READS - 1))
        assert process._is_current()
        control.send(frame(Epoch(1)) + CHANGE)
        assert not process._is_current()
        following = asyncio.ensure_future(process._follow_feed())
        async with asyncio.timeout(10):
            while process._instructed.is_set() or process._is_following:
                await asyncio.sleep(0)
        assert process._is_current()
        control.close()
        assert process._is_current()
        following.cancel()
        asyncio.get_running_loop().remove_reader(mine)
        feed.close()


async def test_a_feed_with_more_changes_than_the_worker_can_read(pair: tuple[socket.socket, socket.socket]) -> None:
    feed, control = pair
    supervisor, mine = socket.socketpair()
    with supervisor, mine:
        process = _Process(0, Channel(mine), Counters(), private_page(), private_ring)
        process._take_feed(feed)
        control.send(CHANGE * (MAX_FEED_READS + 1))
        assert not process._is_current()
        assert process._is_current()
        asyncio.get_running_loop().remove_reader(mine)
        asyncio.get_running_loop().remove_reader(feed)
        feed.close()
