"""The child processes: starting them, telling whether they live, starting them again.

A child is silent when its heartbeat is older than SILENCE; it is killed then and replaced. One that keeps dying soon after its start is
started again more and more slowly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import Final

from svcdns.telemetry.channel import Channel, ChannelClosedError, Message
from svcdns.telemetry.lifeline import PARENT
from svcdns.telemetry.shared import State, clear_heartbeat, heartbeat, state

SILENCE: Final = 3.0
"""Seconds without a heartbeat after which a child is killed."""
FIRST_BEAT: Final = 30.0
"""Seconds that a child may take until its first heartbeat."""
SETTLED: Final = 10.0
"""Seconds after which a child's death is no part of a crash loop."""
SLOWEST: Final = 5.0
_QUICKEST: Final = 0.1
_ALLOCATOR: Final = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""For glibc, whose thresholds grow with use: large blocks, a page of an API list say, go back to the system when they are freed."""


class Child:
    """One process to be kept alive. `region` is its part of the shared mapping."""

    def __init__(self, name: str, command: list[str], region: memoryview, shared: int) -> None:
        """`command` is what follows `python -m`; the descriptors of channel and mapping are put behind it."""
        self.name, self._command, self._region, self._shared = name, command, region, shared
        self.pid = 0
        self.channel: Channel | None = None
        self.start_at = 0.0
        self.started = 0.0
        self.deaths = 0

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
        theirs.set_inheritable(True)
        clear_heartbeat(self._region)
        arguments = [sys.executable, "-m", *self._command, *more, "--channel", str(theirs.fileno()), "--shared", str(self._shared)]
        environment = {**_ALLOCATOR, **os.environ, PARENT: str(os.getpid())}
        self.pid = os.posix_spawn(sys.executable, arguments, environment, setsigmask=(), setsigdef=(signal.SIGPIPE,))
        theirs.close()
        self.channel = Channel(ours)
        self.started, self.start_at = now, 0.0

    def died(self, now: float) -> None:
        """The process has been reaped; `start_at` says when to start it again."""
        self.pid = 0
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.deaths = 0 if now - self.started > SETTLED else self.deaths + 1
        self.start_at = now if self.deaths <= 1 else now + min(SLOWEST, _QUICKEST * 2**self.deaths)

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Sends a message; one to a child that is gone goes nowhere, its successor is told everything anew."""
        if self.channel is not None:
            try:
                self.channel.send(message, fds)
            except ChannelClosedError:
                return

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        if self.pid:
            os.kill(self.pid, number)

    def is_silent(self, now: float, awake_since: float) -> bool:
        """Whether the process has not beaten for too long; time in which the supervisor itself stood still does not count."""
        last = heartbeat(self._region)
        if not last:
            return now - max(self.started, awake_since) > FIRST_BEAT
        return now - max(last, awake_since) > SILENCE


def keep_on_processor(pid: int, slot: int) -> None:
    """Keeps the worker of a slot on one of the processors that this program may use; nothing where that cannot be done."""
    if sys.platform == "linux":
        allowed = sorted(os.sched_getaffinity(0))
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, {allowed[slot % len(allowed)]})
