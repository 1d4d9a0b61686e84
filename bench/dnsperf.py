"""Runs dnsperf and reads its summary."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import spawn


class BrokenError(Exception):
    """Raised if a scenario cannot be measured: queries were lost, responses were wrong, or a server does not start."""


@dataclass(frozen=True)
class Load:
    """The load that dnsperf sends.

    - `rate` is in queries a second; with 0, the next query is sent when a response arrives.
    - `seconds` is the duration; with 0, the input file is sent once.
    - `outstanding` is the largest number of open queries; 0 means dnsperf's default.
    - `mode` is `udp`, `tcp` or `dot` (DNS over TLS).
    - `dnssec_ok` sets the DO bit of the queries.
    - `address` is the server's address.
    """

    seconds: int = 3
    rate: int = 0
    clients: int = 128
    outstanding: int = 0
    mode: str = "udp"
    dnssec_ok: bool = False
    address: str = "127.0.0.1"

    def command(self, port: int, path: Path) -> list[str]:
        """Returns dnsperf's command line. `path` is the file of queries."""
        arguments = [
            "dnsperf",
            "-s",
            self.address,
            "-p",
            str(port),
            "-d",
            str(path),
            "-c",
            str(self.clients),
            "-T",
            "1",
        ]
        arguments += ["-l", str(self.seconds)] if self.seconds else ["-n", "1"]
        arguments += ["-Q", str(self.rate)] if self.rate else []
        arguments += ["-q", str(self.outstanding)] if self.outstanding else []
        arguments += ["-e", "-D"] if self.dnssec_ok else []
        return arguments + (["-m", self.mode] if self.mode != "udp" else [])


@dataclass(frozen=True)
class Figures:
    """The summary of a dnsperf run: numbers of queries, the duration, and the responses by response code."""

    sent: int
    completed: int
    lost: int
    seconds: float
    codes: dict[str, int]

    @property
    def rate(self) -> float:
        """Returns the number of responses per second."""
        return self.completed / self.seconds

    def share(self, code: str) -> float:
        """Returns the share of the responses that have this response code, from 0 to 1."""
        return self.codes.get(code, 0) / self.completed if self.completed else 0.0


def parse_summary(text: str) -> Figures:
    """Parses dnsperf's summary. Raises BrokenError if the text has no summary."""
    found = {
        label: re.search(rf"{label}:\s+([\d.]+)", text)
        for label in ("Queries sent", "Queries completed", "Queries lost", "Run time \\(s\\)")
    }
    values = [float(one[1]) for one in found.values() if one]
    if len(values) != len(found):
        raise BrokenError(f"no summary in the output of dnsperf: {text.strip()[-500:]}")
    line = re.search(r"Response codes:(.*)", text)
    codes = {code: int(count) for code, count in re.findall(r"(\w+) (\d+)", line[1] if line else "")}
    return Figures(int(values[0]), int(values[1]), int(values[2]), values[3], codes)


def run(load: Load, port: int, path: Path, cpus: Sequence[int]) -> Figures:
    """Runs dnsperf against a server. Raises BrokenError if dnsperf fails."""
    process = spawn(load.command(port, path), cpus, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=load.seconds + 120)
    if process.returncode:
        raise BrokenError(f"dnsperf exited with {process.returncode}: {output.decode()[-500:]}")
    return parse_summary(output.decode())


def check(figures: Figures, nxdomain: float, lost: float = 0.01) -> None:
    """Raises BrokenError if too many queries were lost, or if the shares of response codes are wrong.

    `nxdomain` is the expected share of NXDOMAIN responses. All others must be NOERROR. `lost` is the share of queries
    that may be lost.
    """
    if figures.completed == 0 or figures.lost > lost * figures.sent:
        raise BrokenError(f"{figures.lost} of {figures.sent} queries were lost")
    for code, wanted in (("NOERROR", 1 - nxdomain), ("NXDOMAIN", nxdomain)):
        if abs(figures.share(code) - wanted) > 0.01:
            raise BrokenError(
                f"{wanted:.1%} of the responses should be {code}; the response codes were {figures.codes}"
            )
