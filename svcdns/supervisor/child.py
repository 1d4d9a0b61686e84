"""The child processes: starting them, telling whether they live, starting them again.

A child stalls when its heartbeat is older than STALL: others do its work meanwhile, where they can. It is silent when that is older than
SILENCE, and is killed then and started again. One that keeps ending soon after its start, a crash loop, is started more and more slowly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
from typing import Final

from svcdns.process import isolated
from svcdns.process.channel import Channel, ChannelClosedError, Message
from svcdns.process.parent_death import PARENT
from svcdns.process.shared_memory import State, enter, heartbeat, state

STALL: Final = 0.75
"""Seconds without a heartbeat after which other workers read a worker's sockets. It beats four times a second."""
SILENCE: Final = 3.0
"""Seconds without a heartbeat after which a child is killed."""
FIRST_BEAT: Final = 30.0
"""Seconds that a child may take until its first heartbeat."""
LATE: Final = 1.5
"""Seconds after which a beat is late: from then on it is looked whether the process gets a processor at all."""
SETTLED: Final = 10.0
"""Seconds after which a child's death is no part of a crash loop."""
SLOWEST: Final = 5.0
"""Seconds that a start is put off at most."""
LOOP: Final = 3
"""Deaths soon after a start, one behind the other, that are a crash loop."""
SEND_PATIENCE: Final = 1
"""Seconds that a child may leave its channel full; after that it is killed, as half a message cannot be taken back."""
_QUICKEST: Final = 0.1
_ALLOCATOR: Final = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""For glibc, whose thresholds grow with use: large blocks, a page of an API list say, go back to the system when they are freed."""


class Child:
    """One process to be kept alive. `slot` is a worker's, -1 for control; `number` is that of its region of the shared mapping."""

    def __init__(self, name: str, command: list[str], slot: int, number: int, region: memoryview, shared: int) -> None:
        """`command` is a module and its arguments; the region's number and the descriptors of channel and mapping are put behind it."""
        self.name, self.command, self.slot, self.number = name, command, slot, number
        self._region, self._shared = region, shared
        self.pid = 0
        self.channel: Channel | None = None
        self.start_at = 0.0
        self.started = 0.0
        self.deaths = 0
        """How often it has ended soon after its start since it last ran for longer."""
        self.was_silent = False
        """Whether it is being killed because it was silent."""
        self._late = (0.0, 0.0)
        """The last beat that was found late, and how long the process had waited for a processor then."""
        self.anew = False
        """Whether it was started while the server served."""
        self.adopted = False
        """Whether the program before this one has started it."""

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.pid != 0

    @property
    def state(self) -> State:
        """What the process says it is doing."""
        return state(self._region)

    def start(self, now: float, *more: str) -> None:
        """Starts the process, with further arguments for this life of it."""
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_PATIENCE, 0))
        theirs.set_inheritable(True)
        enter(self._region, State.STARTING)
        own = ["--region", str(self.number), "--channel", str(theirs.fileno()), "--shared", str(self._shared)]
        command = isolated.command(*self.command, *more, *own)
        environment = {**_ALLOCATOR, **os.environ, PARENT: str(os.getpid())}
        self.pid = os.posix_spawn(command[0], command, environment, setsigmask=(), setsigdef=(signal.SIGPIPE,))
        theirs.close()
        self.channel = Channel(ours)
        self.started, self.start_at, self.was_silent, self.adopted = now, 0.0, False, False

    def died(self, now: float) -> None:
        """The process has been reaped; `start_at` says when to start it again."""
        self.pid = 0
        enter(self._region, State.ENDED)
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.deaths = 0 if now - self.started > SETTLED else self.deaths + 1
        self.start_at = now if self.deaths <= 1 else now + min(SLOWEST, _QUICKEST * 2**self.deaths)

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Sends a message. One to a child that is gone or does not read goes nowhere: it is killed, and the next one told everything."""
        if self.channel is not None:
            try:
                self.channel.send(message, fds)
            except ChannelClosedError:
                self.kill()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        if self.pid:
            os.kill(self.pid, number)

    def is_silent(self, now: float, awake_since: float) -> bool:
        """Whether the process has not beaten for too long.

        Time in which the supervisor itself stood still does not count, nor does time in which the process waited for a processor: on a
        crowded node to kill it would make all worse.
        """
        last = heartbeat(self._region)
        if not last:
            return now - max(self.started, awake_since) > FIRST_BEAT
        silence = now - max(last, awake_since)
        if silence <= LATE:
            return False
        waited = _waited(self.pid)
        if self._late[0] != last:
            self._late = last, waited
        return silence - (waited - self._late[1]) > SILENCE

    def serves(self, now: float, awake_since: float) -> bool:
        """Whether the process is a worker that reads its sockets, and not just now stalled."""
        beats = now - max(heartbeat(self._region), awake_since) <= STALL
        return self.running and beats and self.state in (State.SERVING, State.SERVING_UNSYNCED)


def _waited(pid: int) -> float:
    """Seconds that a process has waited for a processor so far, where the kernel tells; Linux alone does."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def keep_on_processor(pid: int, slot: int) -> None:
    """Keeps the worker of a slot on one of the processors that this program may use; nothing where that cannot be done."""
    if sys.platform == "linux":
        allowed = sorted(os.sched_getaffinity(0))
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, {allowed[slot % len(allowed)]})
