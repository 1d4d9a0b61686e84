"""Starts processes on chosen cores, and reads the CPU time and memory of a process tree from /proc."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1


def tree(pid: int) -> list[int]:
    """Returns the ids of a process and all its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def children(pid: int) -> dict[str, int]:
    """Returns the process ids of the control process and the workers, by name such as `worker 0`.

    `pid` is the supervisor. If two processes have the same name, the newer one is returned.
    """
    found: dict[str, int] = {}
    for one in sorted(tree(pid)[1:]):
        try:
            command = Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"svcdns.control" in command:
            found["control"] = one
        elif b"svcdns.worker" in command:
            found["worker " + command[command.index(b"--slot") + 1].decode()] = one
    return found


def cpu_seconds(pid: int) -> float:
    """Returns the CPU seconds of a process and its descendants, without threads and processes that have ended."""
    total = 0
    for one in tree(pid):
        for task in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


def cpu_seconds_since_start(pid: int) -> float:
    """Returns the CPU seconds of a process and all its descendants, in steps of 10 ms.

    Descendants that have ended are included.
    """
    ticks = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_mib(pid: int) -> float:
    """Returns the proportional set size (PSS) of a process and its descendants together, in MiB."""
    return sum(map(_pss_kib, tree(pid))) / 1024


def _pss_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


class PssSampler:
    """Measures the memory of a process tree at intervals, in a thread. `peak` is the largest value so far, in MiB."""

    def __init__(self, pid: int, every: float = 0.05) -> None:
        self.peak = 0.0
        self.samples = 0
        self._pid, self._every = pid, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self.peak = max(self.peak, pss_mib(self._pid))
            self.samples += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def spawn(command: Sequence[str], cpus: Sequence[int], **options: Any) -> subprocess.Popen[bytes]:
    """Starts a process in a new session, on the cores `cpus`. The calling thread stays on its own cores."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        return subprocess.Popen(command, start_new_session=True, **options)
    finally:
        os.sched_setaffinity(0, own)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and its descendants."""
    for pid in tree(process.pid) if process.poll() is None else []:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(10)


def end_with_parent() -> None:
    """Makes the kernel kill this process when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Helper:
    """A helper process of the benchmark.

    The process prints its port, reads commands from standard input, and ends when standard input is closed.
    """

    def __init__(self, module: str, *arguments: str, cpus: Sequence[int]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = spawn([sys.executable, "-m", module, *arguments], cpus, **pipes)
        self.port = int(self._output.readline() or 0)
        if not self.port:
            raise RuntimeError(f"{module} did not start")

    @property
    def _output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def request(self, command: str) -> Any:
        """Sends one command line to the process, and returns its reply, decoded from JSON."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        line = self._output.readline()
        if not line:
            raise RuntimeError(f"no reply to {command!r}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process by closing its standard input, and waits for its exit."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._output.close()
        self.process.wait(10)


def until(what: str, probe: Callable[[], T], timeout: float, pause: float = 0.002) -> T:
    """Calls `probe` until its result is true, and returns the result.

    Raises TimeoutError after `timeout` seconds, with `what` in the text. `pause` is the time between two calls in
    seconds.
    """
    deadline = time.monotonic() + timeout
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out waiting for {what}")
        time.sleep(pause)
    return found


def free_ports(count: int) -> list[int]:
    """Returns ports that are free for UDP and TCP, below the kernel's ephemeral ports.

    The ports are reserved until this process ends: no other process gets them from this function.
    """
    found: list[int] = []
    while len(found) < count:
        port = _RANDOM.randrange(10_000, 32_000)
        if port in _allocated or not _reserve(port):
            continue
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("", port))
                udp.bind(("", port))
            except OSError:
                continue
        _allocated.add(port)
        found.append(port)
    return found


_RANDOM = random.SystemRandom()
"""pytest-randomly gives the module's own generator the same seed in every test."""
_allocated: set[int] = set()


def _reserve(port: int) -> bool:
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _reservations() -> int:
    """Returns the descriptor of a file in which a lock on octet N reserves port N. The file stays open."""
    path = Path(tempfile.gettempdir()) / f"svcdns-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
