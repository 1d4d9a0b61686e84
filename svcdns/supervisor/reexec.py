"""The supervisor's own part of an upgrade in place: its process executes the new program (execve(2)).

The process id stays the same, and the children keep their parent. The state for the new program is JSON in a file in
memory. Descriptors stay open. Rule: keys of the state are never renamed. If the meaning of a key changes, increment
`HANDOVER`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from svcdns.process import isolated, shared_memory
from svcdns.process.channel import Channel
from svcdns.supervisor.child import Child
from svcdns.supervisor.children import Children

State = dict[str, Any]

_FIELDS: Final = {
    "number": "number",
    "pid": "pid",
    "started": "started",
    "start_at": "start_at",
    "deaths": "early_exits",
    "was_silent": "was_unresponsive",
}
"""JSON keys of the state, mapped to the attributes of `Child`; the channel is handled separately."""


def dump(children: Children) -> tuple[State, list[int]]:
    """Returns the state for the new program, and the descriptors that must stay open."""
    listening = children.sockets.all
    running = [children.control, *children.workers]
    encrypted = [children.encrypted] if children.encrypted is not None else []
    state = {
        "arguments": children.control_arguments,
        "pin": children.pin,
        "format": children.format,
        "mapping": children.mapping,
        "sockets": [{**one.fields(), "fd": one.sock.fileno()} for one in listening],
        "children": [_dump_child(child) for child in running],
        "encrypted": [_dump_child(child) for child in encrypted],
        "endings": children.exits.message(),
    }
    channels = [child.channel.fileno() for child in (*running, *encrypted) if child.channel is not None]
    return state, [children.mapping, *channels, *(one.sock.fileno() for one in listening)]


def _dump_child(child: Child) -> State:
    channel = child.channel.fileno() if child.channel is not None else None
    return {**{key: getattr(child, name) for key, name in _FIELDS.items()}, "channel": channel}


def restore(children: Children, state: State) -> None:
    """Restores the old program's state in new `Children`, and takes over its processes."""
    children.pin, children.format, children.served = state["pin"], state["format"], True
    children.sockets.restore(state["sockets"])
    children.exits.restore(state["endings"])
    control, *workers = state["children"]
    children.control = children.new_control(control["number"])
    children.workers = [children.new_worker(slot, worker["number"]) for slot, worker in enumerate(workers)]
    encrypted = state.get("encrypted", [])  # earlier versions have no such worker
    for worker in encrypted:
        children.encrypted = children.new_worker(shared_memory.ENCRYPTED_SLOT, worker["number"])
    running = (children.control, *children.all_workers)
    for child, dumped in zip(running, [*state["children"], *encrypted], strict=True):
        for key, name in _FIELDS.items():
            setattr(child, name, dumped[key])
        child.adopted = True
        if dumped["channel"] is not None:
            os.set_inheritable(dumped["channel"], False)
            child.channel = Channel(socket.socket(fileno=dumped["channel"]))
        children.adopt(child)


def execute(state: State, descriptors: list[int]) -> None:
    """Executes the new program in this process, and does not return.

    If that is impossible, raises OSError and changes nothing.
    """
    fd = shared_memory.memory_file("svcdns-handover")
    try:
        os.write(fd, json.dumps(state).encode())
        with _inheritable([fd, *descriptors]):
            command = isolated.command("svcdns.supervisor", "--adopt", str(fd))
            os.execv(command[0], command)
    finally:
        os.close(fd)


@contextmanager
def _inheritable(descriptors: list[int]) -> Iterator[None]:
    before = {fd: os.get_inheritable(fd) for fd in descriptors}
    for fd in descriptors:
        os.set_inheritable(fd, True)
    try:
        yield
    finally:
        for fd, inheritable in before.items():
            os.set_inheritable(fd, inheritable)


def read_state(fd: int) -> State:
    """Reads the state that the old program has stored, and closes the descriptor."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        state: State = json.load(file)
    return state
