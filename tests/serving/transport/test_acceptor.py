"""Accepting TCP connections. The clients take turns."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from time import perf_counter
from typing import Any

import pytest

from svcdns.eventloop.fair_queue import QUANTUM
from svcdns.serving.transport import acceptor as module
from svcdns.serving.transport.acceptor import Acceptor
from tests.support.tcp import listening, no_errors, no_sheds


class Started:
    """Records the addresses of the connections that an acceptor starts, and closes the connections."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.options: list[tuple[int, bool]] = []

    def __call__(self, sock: socket.socket, address: Any) -> None:
        """Records the address of one connection, and whether the socket may delay or block."""
        with sock:
            self.options.append(
                (sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), os.get_blocking(sock.fileno()))
            )
        self.hosts.append(address[0])


@contextlib.contextmanager
def accepting(
    started: Callable[[socket.socket, Any], None],
    sources: list[str],
    shed: Callable[[int], None] = no_sheds,
    failed: Callable[[str, OSError], None] = no_errors,
) -> Iterator[Acceptor]:
    """Yields an acceptor whose socket has a waiting connection from each of these addresses."""
    with listening() as server, contextlib.ExitStack() as stack:
        acceptor = Acceptor(server, started, shed, failed)
        for source in sources:
            stack.enter_context(socket.create_connection(server.getsockname(), 10, (source, 0)))
        yield acceptor
        acceptor.stop()


async def test_a_connection_does_not_wait_for_those_of_another_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first client has opened many connections before the second client opens one."""
    monkeypatch.setattr(module, "MAX_WAITING", 50)
    started = Started()

    def start(sock: socket.socket, address: Any) -> None:
        ends = perf_counter() + 2 * QUANTUM
        while perf_counter() < ends:
            pass
        started(sock, address)

    with accepting(start, [*["127.0.0.2"] * 20, "127.0.0.3"]) as acceptor:
        monkeypatch.setattr(acceptor, "_scheduled", True)
        while len(acceptor._waiting) < 21:
            acceptor.accept()
        acceptor._start_some()
        async with asyncio.timeout(10):
            while len(started.hosts) < 21:
                acceptor.accept()
                await asyncio.sleep(0)
    assert "127.0.0.3" in started.hosts[:3]
    assert set(started.options) == {(1, False)}


async def test_starting_takes_a_slice_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that do not fit into a time slice are started in the next iteration of the event loop."""
    started = Started()
    monkeypatch.setattr(module, "FULL", 1)
    with accepting(started, ["127.0.0.2"] * 5) as acceptor:
        monkeypatch.setattr(module, "SLICE", 10.0)
        start_some = acceptor._start_some
        monkeypatch.setattr(acceptor, "_start_some", lambda: None)
        assert acceptor.accept() == 5
        monkeypatch.setattr(module, "SLICE", 1e-9)
        for number in range(1, 6):
            start_some()
            assert len(started.hosts) == number


async def test_a_few_connections_start_as_soon_as_they_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that do not fit into the time slice wait in the queue."""
    started = Started()
    with accepting(started, ["127.0.0.2"] * 5) as acceptor:
        monkeypatch.setattr(module, "SLICE", 10.0)
        assert acceptor.accept() == 5
        assert len(started.hosts) == 5
    with accepting(started, ["127.0.0.2"] * 2) as acceptor:
        monkeypatch.setattr(module, "SLICE", 10.0)
        _end_of_slice(monkeypatch)
        assert acceptor.accept() == 2
        assert (len(started.hosts), len(acceptor._waiting)) == (5, 2)


def _end_of_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the time slice end after two connections were accepted."""
    times = chain([0.0] * 4, repeat(100.0))
    monkeypatch.setattr(module, "perf_counter", lambda: next(times))


async def test_accepted_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If too many accepted connections wait, the client with the most of them loses connections. The lost connections
    are counted.
    """
    monkeypatch.setattr(module, "MAX_WAITING", 4)
    monkeypatch.setattr(module, "FULL", 1)
    monkeypatch.setattr(module, "SLICE", 10.0)
    started, shed = Started(), list[int]()
    with accepting(started, [*["127.0.0.2"] * 6, "127.0.0.3"], shed.append) as acceptor:
        assert acceptor.accept() == 7
    assert shed == [3]
    assert sorted(started.hosts) == [*["127.0.0.2"] * 3, "127.0.0.3"]


class _Failing(socket.socket):
    """A listening socket that cannot accept."""

    def _accept(self) -> tuple[int, Any]:
        """Fails as if the process had no descriptor left."""
        raise OSError(errno.EMFILE, "Too many open files")


async def test_a_lack_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process has no free descriptor, the failure is reported. The acceptor tries again after RETRY seconds."""
    monkeypatch.setattr(module, "RETRY", 0.0)
    errors: list[tuple[str, int | None]] = []
    with _Failing(fileno=listening().detach()) as server:
        acceptor = Acceptor(server, Started(), no_sheds, lambda what, error: errors.append((what, error.errno)))
        with socket.create_connection(server.getsockname()):
            async with asyncio.timeout(10):
                while len(errors) < 3:
                    await asyncio.sleep(0)
        acceptor.stop()
    assert set(errors) == {("accept", errno.EMFILE)}


async def test_connections_that_were_accepted_start_at_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop` starts the connections that were accepted, and the listening socket stays open."""
    started = Started()
    monkeypatch.setattr(module, "FULL", 1)
    with accepting(started, ["127.0.0.2"] * 3) as acceptor:
        monkeypatch.setattr(acceptor, "_start_some", lambda: None)
        monkeypatch.setattr(module, "SLICE", 10.0)
        assert acceptor.accept() == 3
        assert started.hosts == []
        acceptor.stop()
        assert len(started.hosts) == 3
        assert acceptor._sock.fileno() >= 0
