"""Compiles and runs the C programs of this folder.

`pace.c` sends queries at even intervals. `neighbour.c` empties the CPU caches of a core.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.dnsperf import BrokenError
from bench.processes import kill_tree, spawn

BLOCK = 2 << 20
"""Octets that the neighbour writes to in one go: twice the level 2 cache of a large core."""
PAUSE = 200
"""Microseconds between two rounds of the neighbour, which is the interval of queries at 5,000 a second."""


@dataclass(frozen=True)
class Figures:
    """The result of `pace`: numbers of queries and replies, replies by response code, and latencies in microseconds.

    `late` is the number of queries that were sent after their time.
    """

    sent: int
    answered: int
    late: int
    seconds: float
    codes: dict[str, int]
    p50: float
    p90: float
    p99: float
    p999: float
    slowest: float

    @property
    def lost(self) -> int:
        """Returns the number of queries without a reply."""
        return self.sent - self.answered


@dataclass(frozen=True)
class Pace:
    """How to send queries: at most `rate` a second, for some seconds.

    - `wait`: over UDP, each at its time, but not before the reply to the previous query.
    - `open`: over UDP, each at its time.
    - `tcp`: each query has a new TCP connection.
    """

    rate: int
    seconds: float
    mode: str = "wait"

    def command(self, program: Path, port: int, path: Path, address: str = "127.0.0.1") -> list[str]:
        """Returns the command line of the compiled program. `path` is a file of queries for dnsperf."""
        return [str(program), str(port), str(self.rate), str(self.seconds), self.mode, str(path), address]


def why_unavailable() -> str:
    """Returns the reason why C programs cannot be compiled on this machine, or an empty text if they can."""
    return "" if shutil.which("cc") else "no C compiler (cc) in PATH"


def compiled(name: str, folder: Path) -> Path:
    """Compiles a C program of this folder into `folder`, if that was not done before. Returns the path of the program.

    Raises BrokenError if the compiler fails.
    """
    program = folder / name
    if not program.exists():
        source = Path(__file__).with_name(f"{name}.c")
        done = subprocess.run(["cc", "-O2", "-o", program, source], check=False, capture_output=True, text=True)
        if done.returncode:
            raise BrokenError(f"cannot compile {source.name}: {done.stderr[-500:]}")
    return program


def start(pace: Pace, program: Path, port: int, path: Path, cpus: Sequence[int]) -> subprocess.Popen[bytes]:
    """Starts to send queries. `finish` waits for the end."""
    return spawn(pace.command(program, port, path), cpus, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> Figures:
    """Waits until all queries were sent, and returns the figures. Raises BrokenError if the program fails."""
    output, _ = process.communicate()
    if process.returncode:
        raise BrokenError(f"pace exited with {process.returncode}")
    return Figures(**json.loads(output))


def check(figures: Figures, lost: float = 0.01) -> None:
    """Raises BrokenError if more than the share `lost` of the queries was lost, or if a reply is not NOERROR."""
    if not figures.answered or figures.lost > lost * figures.sent:
        raise BrokenError(f"{figures.lost} of {figures.sent} queries were lost")
    if figures.codes["NOERROR"] != figures.answered:
        raise BrokenError(f"responses that are not NOERROR: {figures.codes}")


@contextmanager
def neighbour(folder: Path, cpus: Sequence[int]) -> Iterator[None]:
    """Context manager that runs a process which empties the CPU caches of the cores `cpus`.

    The process is compiled in `folder`.
    """
    process = spawn([str(compiled("neighbour", folder)), str(BLOCK), str(PAUSE)], cpus)
    try:
        yield
    finally:
        kill_tree(process)
