"""The event loop, which drains registered sockets inside its selector. To drain a socket is to read all waiting
packets.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from svcdns.eventloop.loop import DrainingLoop, DrainingSelector, add_drain, after_drains, remove_drain


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ends[0], ends[1]:
        yield ends


def test_a_drained_socket_is_never_reported(pair: tuple[socket.socket, socket.socket]) -> None:
    """`select` reads the socket and goes on waiting for the rest of its time."""
    ours, theirs = pair
    taken = []
    with DrainingSelector() as selector:
        selector.add(ours.fileno(), lambda: taken.append(ours.recv(9)) is not None)
        theirs.send(b"1")
        assert selector.select(0.01) == []
        assert taken == [b"1"]
        theirs.send(b"2")
        selector.remove(ours.fileno())
        assert selector.select(0) == []
        assert taken == [b"1"]


@pytest.mark.parametrize(
    "put", [lambda loop: loop.call_soon(loop.stop), lambda loop: loop.call_later(0.0, loop.stop)], ids=["soon", "later"]
)
def test_a_callback_that_a_drain_schedules_ends_the_wait(
    pair: tuple[socket.socket, socket.socket], put: Callable[[asyncio.AbstractEventLoop], object]
) -> None:
    ours, theirs = pair
    loop = DrainingLoop()

    def drain() -> None:
        ours.recv(9)
        put(loop)

    add_drain(loop, ours, drain)
    theirs.send(b"1")
    loop.run_forever()
    loop.close()


def test_after_drains_calls_functions_once_all_sockets_are_drained(pair: tuple[socket.socket, socket.socket]) -> None:
    """If no socket is drained, the functions run in the next iteration of the loop."""
    ours, theirs = pair
    done: list[str] = []
    loop = DrainingLoop()

    def drain(sock: socket.socket) -> None:
        done.append(sock.recv(9).decode())
        after_drains(loop, lambda: done.append("behind"))

    for sock, other in ((ours, theirs), (theirs, ours)):
        add_drain(loop, sock, partial(drain, sock))
        other.send(b"drained")
    assert loop.selector.select(0) == []
    assert done == ["drained", "drained", "behind", "behind"]
    after_drains(loop, lambda: done.append("without a drain"))
    after_drains(loop, loop.stop)
    loop.run_forever()
    assert done[4:] == ["without a drain"]
    loop.close()


def test_timers_and_tasks_run_during_a_flood(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    drained = 0

    def drain() -> bool:
        nonlocal drained
        drained += 1
        return False

    async def work() -> bytes:
        loop = asyncio.get_running_loop()
        add_drain(loop, ours, drain)
        theirs.send(b"never read")
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            loop.call_later(0.01, right.send, b"timer")
            got = await asyncio.wait_for(loop.sock_recv(left, 9), 10)
        remove_drain(loop, ours)
        return got

    with asyncio.Runner(loop_factory=DrainingLoop) as runner:
        assert runner.run(work()) == b"timer"
    assert drained > 1


async def test_any_other_event_loop_uses_ordinary_readers(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    add_drain(asyncio.get_running_loop(), ours, lambda: got.set_result(ours.recv(9)))
    theirs.send(b"x")
    assert await asyncio.wait_for(got, 10) == b"x"
    remove_drain(asyncio.get_running_loop(), ours)


def test_asyncio_finds_a_registration_by_its_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    """CPython 3.13 looks up the socket object, older versions the descriptor's number."""
    loop, (one, other) = DrainingLoop(), pair
    called: list[int] = []
    try:
        loop.add_reader(one, called.append, 1)
        loop.add_reader(one, called.append, 2)
        assert loop.selector.get_map().get(one) is loop.selector.get_map()[one.fileno()]
        assert list(loop.selector.get_map()).count(one.fileno()) == 1
        other.send(b"x")
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
    finally:
        loop.close()
    assert set(called) == {2}
