"""dnsperf, run and read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import spawn


class BrokenError(Exception):
    """A scenario did not do what it measures: questions lost, wrong answers, a server that does not start."""


@dataclass(frozen=True)
class Load:
    """How to ask. `rate` 0 asks as fast as answers come; `seconds` 0 asks the input once; `outstanding` 0 is dnsperf's default."""

    seconds: int = 3
    rate: int = 0
    clients: int = 128
    outstanding: int = 0
    tcp: bool = False

    def command(self, port: int, path: Path) -> list[str]:
        """dnsperf's command line."""
        words = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(path), "-c", str(self.clients), "-T", "1"]
        words += ["-l", str(self.seconds)] if self.seconds else ["-n", "1"]
        words += ["-Q", str(self.rate)] if self.rate else []
        words += ["-q", str(self.outstanding)] if self.outstanding else []
        return words + (["-m", "tcp"] if self.tcp else [])


@dataclass(frozen=True)
class Figures:
    """What dnsperf says of a run."""

    sent: int
    completed: int
    lost: int
    seconds: float
    codes: dict[str, int]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.completed / self.seconds

    def share(self, code: str) -> float:
        """The share of a response code among the answers."""
        return self.codes.get(code, 0) / self.completed if self.completed else 0.0


def read(text: str) -> Figures:
    """dnsperf's summary. Raises BrokenError where it is not one."""
    found = {
        label: re.search(rf"{label}:\s+([\d.]+)", text)
        for label in ("Queries sent", "Queries completed", "Queries lost", "Run time \\(s\\)")
    }
    values = [float(one[1]) for one in found.values() if one]
    if len(values) != len(found):
        raise BrokenError(f"dnsperf said: {text.strip()[-500:]}")
    line = re.search(r"Response codes:(.*)", text)
    codes = {code: int(count) for code, count in re.findall(r"(\w+) (\d+)", line[1] if line else "")}
    return Figures(int(values[0]), int(values[1]), int(values[2]), values[3], codes)


def run(load: Load, port: int, path: Path, cpus: Sequence[int]) -> Figures:
    """Asks a server. Raises BrokenError if dnsperf fails."""
    process = spawn(load.command(port, path), cpus, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=load.seconds + 120)
    if process.returncode:
        raise BrokenError(f"dnsperf ended with {process.returncode}: {output.decode()[-500:]}")
    return read(output.decode())


def check(figures: Figures, absent: float, lost: float = 0.01) -> None:
    """Holds a run to what it asked: hardly anything lost, NOERROR and NXDOMAIN in their shares. Raises BrokenError."""
    if figures.completed == 0 or figures.lost > lost * figures.sent:
        raise BrokenError(f"{figures.lost} of {figures.sent} questions were lost")
    for code, wanted in (("NOERROR", 1 - absent), ("NXDOMAIN", absent)):
        if abs(figures.share(code) - wanted) > 0.01:
            raise BrokenError(f"{wanted:.1%} of the answers should be {code}; the answers were {figures.codes}")
