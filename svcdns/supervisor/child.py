"""One child process of the supervisor: its start, its heartbeat, and when it is started again.

If the last heartbeat is older than STALL_TIMEOUT seconds, the child *stalls*, and another worker reads its sockets. If
the heartbeat is older than HEARTBEAT_TIMEOUT seconds, the child is *unresponsive*, and the supervisor replaces it. If a
child repeatedly exits soon after its start, it is in a crash loop: each start is delayed longer, up to MAX_BACKOFF.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
from typing import Final, NamedTuple

from svcdns.process import isolated
from svcdns.process.channel import Channel, ChannelClosedError, Message
from svcdns.process.parent_death import PARENT
from svcdns.process.shared_memory import State, heartbeat, reset, state

STALL_TIMEOUT: Final = 0.75
"""Seconds without a heartbeat after which other workers read a worker's sockets. A worker sends four a second."""
HEARTBEAT_TIMEOUT: Final = 3.0
"""Seconds without a heartbeat after which a child is killed."""
START_TIMEOUT: Final = 30.0
"""Seconds within which a child must send its first heartbeat."""
LATE: Final = 0.5
"""Seconds without a heartbeat after which the supervisor measures how long the child waits for a processor."""
STABLE_AFTER: Final = 10.0
"""A child that exits after it has run for more than so many seconds is not in a crash loop."""
MAX_BACKOFF: Final = 5.0
"""The most seconds between an exit and the next start."""
CRASH_LOOP_EXITS: Final = 3
"""So many consecutive exits soon after the start are a crash loop."""
SEND_TIMEOUT: Final = 1
"""Seconds for which a child may leave its channel full; then it is killed.

A message that has been sent in part cannot be taken back.
"""
_MIN_BACKOFF: Final = 0.1
_ALLOCATOR: Final = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Environment variables for glibc (mallopt(3)), so that large free blocks go back to the system.

By default the thresholds grow with use, so that the blocks of a page of an API list, for example, would stay.
"""


class Child:
    """One process that the supervisor keeps running.

    `slot` is the number of the worker, counted from 0, or -1 for the control process. `number` is the number of the
    child's region in the shared memory.
    """

    def __init__(self, name: str, command: list[str], slot: int, number: int, region: memoryview, shared: int) -> None:
        """`command` has a module and its arguments.

        `shared` is the descriptor of the shared memory. `region` is the child's region there.
        """
        self.name, self.command, self.slot, self.number = name, command, slot, number
        self._region, self._shared = region, shared
        self.pid = 0
        self.channel: Channel | None = None
        self.start_at = 0.0
        """When to start the process again, in seconds on CLOCK_MONOTONIC; 0 if it is not to be started."""
        self.started = 0.0
        self.early_exits = 0
        """The number of consecutive exits soon after the start."""
        self.was_unresponsive = False
        """Whether the supervisor has killed the process because it was unresponsive."""
        self._late_since = 0.0
        """The last heartbeat that was found late."""
        self._waited = 0.0
        """Seconds for which threads of the process have waited for a processor since that heartbeat was found late."""
        self._threads: dict[str, ThreadTimes] = {}
        """The times of the process's threads at the last check."""
        self.is_restart = False
        """Whether the process was started after the server had opened its DNS ports."""
        self.adopted = False
        """Whether the supervisor of the old program, before an upgrade in place, started the process."""

    @property
    def running(self) -> bool:
        """Returns True from the start of the process until it has been reaped."""
        return self.pid != 0

    @property
    def state(self) -> State:
        """Returns the state that the process reports."""
        return state(self._region)

    def start(self, now: float, *more: str) -> None:
        """Starts the process. `more` has additional arguments for this start."""
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT, 0))
        theirs.set_inheritable(True)
        reset(self._region, State.STARTING)
        own = ["--region", str(self.number), "--channel", str(theirs.fileno()), "--shared", str(self._shared)]
        command = isolated.command(*self.command, *more, *own)
        environment = {**_ALLOCATOR, **os.environ, PARENT: str(os.getpid())}
        self.pid = os.posix_spawn(command[0], command, environment, setsigmask=(), setsigdef=(signal.SIGPIPE,))
        theirs.close()
        self.channel = Channel(ours)
        self.started, self.start_at, self.was_unresponsive, self.adopted = now, 0.0, False, False

    def exited(self, now: float) -> None:
        """Records that the process has ended and has been reaped. Sets `start_at`."""
        self.pid = 0
        reset(self._region, State.ENDED)
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.early_exits = 0 if now - self.started > STABLE_AFTER else self.early_exits + 1
        self.start_at = now if self.early_exits <= 1 else now + min(MAX_BACKOFF, _MIN_BACKOFF * 2**self.early_exits)

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Sends a message, if the process exists.

        A child that does not read its channel is killed. The supervisor then starts another process.
        """
        if self.channel is not None:
            try:
                self.channel.send(message, fds)
            except ChannelClosedError:
                self.kill()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal, by default SIGKILL, if the process exists."""
        if self.pid:
            os.kill(self.pid, number)

    def is_unresponsive(self, now: float, awake_since: float) -> bool:
        """Returns True if the last heartbeat is so old that the process must be killed.

        Time before `awake_since`, when the supervisor started or went on after a pause, is not counted. Time in which a
        thread of the process waited for a processor is not counted either.
        """
        sent = heartbeat(self._region)
        last, timeout = (sent, HEARTBEAT_TIMEOUT) if sent else (self.started, START_TIMEOUT)
        age = now - max(last, awake_since)
        if age <= LATE:
            return False
        before, self._threads = self._threads, _thread_times(self.pid)
        if self._late_since != last:
            self._late_since, self._waited = last, 0.0
            return age > timeout
        none = ThreadTimes(0.0, 0.0)
        self._waited += sum(
            max(0.0, times.waited - before.get(number, none).waited) for number, times in self._threads.items()
        )
        return age - self._waited > timeout and not any(
            times == before.get(number) and _is_runnable(self.pid, number) for number, times in self._threads.items()
        )

    def is_serving(self, now: float, awake_since: float) -> bool:
        """Returns True if the process is a worker that reads its sockets and has a heartbeat of the last STALL_TIMEOUT
        seconds.

        `awake_since` is the time when the supervisor started, or went on after a pause. This time counts as a
        heartbeat.
        """
        is_recent = now - max(heartbeat(self._region), awake_since) <= STALL_TIMEOUT
        return self.running and is_recent and self.state in (State.SERVING, State.SERVING_UNSYNCED)


class ThreadTimes(NamedTuple):
    """The seconds for which a thread has run, and for which it has waited for a processor.

    The kernel counts a wait only when the thread runs again.
    """

    run: float
    waited: float


def _thread_times(pid: int) -> dict[str, ThreadTimes]:
    """Returns the times of all threads of a process, by thread number.

    Returns no threads on systems other than Linux.
    """
    out = {}
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/task") as threads:
        for thread in threads:
            with contextlib.suppress(OSError, ValueError):
                with open(f"{thread.path}/schedstat", "rb") as file:
                    run, waited, *_ = file.read().split()
                out[thread.name] = ThreadTimes(int(run) / 1e9, int(waited) / 1e9)
    return out


def _is_runnable(pid: int, thread: str) -> bool:
    """Returns True if a thread runs, or waits for a processor."""
    try:
        with open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"R"
    except (OSError, IndexError):
        return False


def pin_to_processor(pid: int, slot: int) -> None:
    """Binds the worker with the number `slot` to one of the processors that this program may use.

    Does nothing on systems without this function.
    """
    if sys.platform == "linux":
        allowed = sorted(os.sched_getaffinity(0))
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, {allowed[slot % len(allowed)]})
