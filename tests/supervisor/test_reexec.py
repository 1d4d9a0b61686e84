"""The state that a supervisor passes to the new program. tests/end_to_end/test_upgrade.py tests whole upgrades."""

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
from svcdns.supervisor.children import Children
from tests.support.server import free_port


def children(mapping: int) -> Children:
    """Returns the children of a supervisor that has started no process."""
    return Children(selectors.DefaultSelector(), lambda _line: None, ["--options", "{}"], mapping)


def test_restore_returns_the_state_that_dump_saved() -> None:
    """The state has the children with their channels, the sockets and the counts."""
    before = children(shared_memory.create())
    ours, theirs = socket.socketpair()
    before.workers = [before.new_worker(0, 70), before.new_worker(1, 2)]
    before.workers[0].pid, before.workers[0].channel, before.workers[0].early_exits = 12345, Channel(ours), 2
    port = free_port()
    before.sockets.change([("127.0.0.1", port, "udp"), ("127.0.0.1", port, "tcp")], 2)
    before.pin, before.format = True, "1.x"
    before.exits.counts["control", "exit"] = 3
    before.exits.loops.add("control")
    state, descriptors = reexec.dump(before)
    assert ours.fileno() in descriptors
    assert before.mapping in descriptors

    after = children(state["mapping"])
    reexec.restore(after, json.loads(json.dumps(state)))
    assert [(worker.slot, worker.number, worker.pid, worker.early_exits) for worker in after.workers] == [
        (0, 70, 12345, 2),
        (1, 2, 0, 0),
    ]
    assert all(child.adopted for child in after)
    assert after.served
    assert (after.pin, after.format, after.exits.message()) == (True, "1.x", before.exits.message())
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
    after.close_channel(after.workers[0])
    theirs.close()
    os.close(before.mapping)


def test_a_program_that_cannot_be_run_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = children(shared_memory.create())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    state, descriptors = reexec.dump(made)
    with pytest.raises(FileNotFoundError):
        reexec.execute(state, descriptors)
    assert not any(map(os.get_inheritable, descriptors))
    os.close(made.mapping)


def test_reading_the_state() -> None:
    """Reading the state closes its descriptor."""
    fd = shared_memory.memory_file("test")
    os.write(fd, b'{"a": 1}')
    assert reexec.read_state(fd) == {"a": 1}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
