"""What a supervisor leaves to the program that takes its place. That it works is seen in tests/end_to_end/test_upgrade.py."""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys

import pytest

from svcdns.process import shared_memory
from svcdns.process.channel import Channel
from svcdns.supervisor import reexec
from svcdns.supervisor.children import Crew
from tests.support.server import free_port


def crew(mapping: int) -> Crew:
    """A crew that has started nobody."""
    return Crew(selectors.DefaultSelector(), lambda _line: None, ["--options", "{}"], mapping)


def test_all_is_there_again() -> None:
    """Children with their channels, sockets, counts."""
    before = crew(shared_memory.make())
    ours, theirs = socket.socketpair()
    before.workers = [before.new_worker(0, 70), before.new_worker(1, 2)]
    before.workers[0].pid, before.workers[0].channel, before.workers[0].deaths = 12345, Channel(ours), 2
    port = free_port()
    before.sockets.change([("127.0.0.1", port, "udp"), ("127.0.0.1", port, "tcp")], 2)
    before.pin, before.format = True, "1.x"
    before.endings.counts["control", "exit"] = 3
    before.endings.loops.add("control")
    state, descriptors = reexec.describe(before)
    assert ours.fileno() in descriptors
    assert before.mapping in descriptors

    after = crew(state["mapping"])
    reexec.restore(after, json.loads(json.dumps(state)))
    assert [(worker.slot, worker.number, worker.pid, worker.deaths) for worker in after.workers] == [(0, 70, 12345, 2), (1, 2, 0, 0)]
    assert all(child.adopted for child in after)
    assert after.served
    assert (after.pin, after.format, after.endings.message()) == (True, "1.x", before.endings.message())
    assert [one[:-1] for one in after.sockets.all] == [one[:-1] for one in before.sockets.all]
    assert [one.sock.fileno() for one in after.sockets.all] == [one.sock.fileno() for one in before.sockets.all]
    assert not any(os.get_inheritable(one.sock.fileno()) for one in after.sockets.all)
    after.workers[0].send({"op": "hello"})
    assert Channel(theirs).receive() == [{"op": "hello", "fds": []}]
    assert after.sockets.change([("127.0.0.1", port, "udp"), ("127.0.0.1", port, "tcp")], 2) == ([], [])
    for one in before.sockets.all:
        one.sock.detach()
    ours.detach()
    after.sockets.close(after.sockets.all)
    after.forget_channel(after.workers[0])
    theirs.close()
    os.close(before.mapping)


def test_a_program_that_cannot_be_run_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left inheritable."""
    made = crew(shared_memory.make())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    state, descriptors = reexec.describe(made)
    with pytest.raises(FileNotFoundError):
        reexec.become(state, descriptors)
    assert not any(map(os.get_inheritable, descriptors))
    os.close(made.mapping)


def test_reading_what_was_left() -> None:
    """The descriptor is closed."""
    fd = shared_memory.memory("test")
    os.write(fd, b'{"a": 1}')
    assert reexec.read(fd) == {"a": 1}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
