"""The upgrade of the program in place, as far as the supervisor itself goes: the same process runs the new program.

So the process that others know (PID 1 of a container) stays, and so do its children, who are its children still. Everything that the new
program has to know goes as JSON through memory that has a descriptor; the descriptors themselves (sockets, channels, mapping) stay open.
Rule: what is written here is read by another version of the program. Where that changes, `shared.HANDOVER` does.
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
from svcdns.supervisor.children import Crew

State = dict[str, Any]

_KEPT: Final = ("number", "pid", "started", "start_at", "deaths", "was_silent")
"""What is kept of a child, besides its channel."""


def describe(crew: Crew) -> tuple[State, list[int]]:
    """What the new program has to know of the crew, and the descriptors that have to stay open."""
    listening = crew.sockets.all
    children = [crew.control, *crew.workers]
    state = {
        "arguments": crew.control_arguments,
        "pin": crew.pin,
        "format": crew.format,
        "mapping": crew.mapping,
        "sockets": [{**one.described(), "fd": one.sock.fileno()} for one in listening],
        "children": [_child(child) for child in children],
        "endings": crew.endings.message(),
    }
    channels = [child.channel.fileno() for child in children if child.channel is not None]
    return state, [crew.mapping, *channels, *(one.sock.fileno() for one in listening)]


def _child(child: Child) -> State:
    channel = child.channel.fileno() if child.channel is not None else None
    return {**{name: getattr(child, name) for name in _KEPT}, "channel": channel}


def restore(crew: Crew, state: State) -> None:
    """Makes a new crew what the old one was; its children are adopted."""
    crew.pin, crew.format, crew.served = state["pin"], state["format"], True
    crew.sockets.restore(state["sockets"])
    crew.endings.restore(state["endings"])
    control, *workers = state["children"]
    crew.control = crew.new_control(control["number"])
    crew.workers = [crew.new_worker(slot, worker["number"]) for slot, worker in enumerate(workers)]
    for child, kept in zip((crew.control, *crew.workers), state["children"], strict=True):
        for name in _KEPT:
            setattr(child, name, kept[name])
        child.adopted = True
        if kept["channel"] is not None:
            os.set_inheritable(kept["channel"], False)
            child.channel = Channel(socket.socket(fileno=kept["channel"]))
        crew.adopt(child)


def become(state: State, descriptors: list[int]) -> None:
    """Runs the new program in this process. Raises OSError where that cannot be, and then nothing has changed; else it does not return."""
    fd = shared_memory.memory("svcdns-handover")
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


def read(fd: int) -> State:
    """What the program before has left; the descriptor is closed."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        state: State = json.load(file)
    return state
