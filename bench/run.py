"""A run of scenarios: its options, shared servers, results and progress messages."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench import dnsperf, pacing
from bench.client import write_queries
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Figures, Load
from bench.pacing import Pace
from bench.results import OURS, Row, Target
from bench.servers import Cores, Server, ServerGroup

NEIGHBOUR = ", beside a neighbour that empties the caches"

SMOKE_SECONDS = 0.1
"""The seconds for which a smoke run sends queries at even intervals."""

Part = tuple[list[Row], Callable[[], AbstractContextManager[None]]]
"""Rows of the results, and a function that makes the context manager for their measurement."""


@dataclass(frozen=True)
class Options:
    """The options of `python -m bench`, from its command line."""

    servers: list[str]
    services: int = 10_000
    seconds: int = 5
    rounds: int = 3
    changes: int = 1_000_000
    cores: Cores = field(default_factory=lambda: Cores((0,), (1,)))
    stamps: bool = False
    """In the scenario `change`, svcdns runs with stamps of the steps of each change (`bench.change_stamps`)."""
    smoke: bool = False
    """Small loads and one round: shows that the scenarios work. The figures mean nothing."""


class Run:
    """One run of the benchmark: its options, servers, load, results and failures.

    The class is a context manager, which stops the servers at the end.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rows: list[Row] = []
        self.commands: dict[str, list[str]] = {}
        self.broken: list[str] = []
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="svcdns-queries-")))
        self._shared: ServerGroup | None = None
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- servers

    def peers(self, *wanted: str) -> list[str]:
        """Returns svcdns and those servers in `wanted` that this run measures."""
        return [name for name in self.options.servers if name == OURS or name in wanted]

    def shared_servers(self) -> ServerGroup:
        """Returns a group of all servers, which the scenarios share. Starts the servers at the first call.

        The cluster has one endpoint for each Service.
        """
        if self._shared is None:
            self.progress("starting the servers")
            self._shared = self._stack.enter_context(
                self.server_group(Cluster(self.options.services), self.options.servers)
            )
        return self._shared

    def server_group(
        self,
        cluster: Cluster,
        servers: Sequence[str],
        *,
        workers: int = 1,
        wait: bool = True,
        prefix: Sequence[str] = (),
        plugins: str = "",
        tls: bool = False,
        cores: Cores | None = None,
    ) -> ServerGroup:
        """Starts servers for one scenario, by default on the cores of the options.

        The words in `prefix` are put before each server's command line. The lines `plugins` are added to the server
        block of svcdns and CoreDNS. If `tls` is true, the servers also serve DNS over TLS.
        """
        return ServerGroup(
            cluster, servers, cores or self.options.cores, workers=workers, wait=wait, prefix=prefix, plugins=plugins,
            tls=tls,
        )  # fmt: skip

    # -- load

    def queries(self, name: str, lines: Sequence[str] | Iterator[str]) -> Path:
        """Writes an input file for dnsperf, and returns its path."""
        return write_queries(self.folder / name, lines)

    def load(self, rate: int = 0, *, mode: str = "udp") -> Load:
        """Returns a dnsperf load that lasts `Options.seconds`. In a smoke run, the input file is sent once instead.

        `mode` is `udp`, `tcp` or `dot` (DNS over TLS).
        """
        return Load(seconds=0 if self.options.smoke else self.options.seconds, rate=rate, mode=mode)

    def run_load(self, server: Server, load: Load, path: Path) -> Figures:
        """Runs dnsperf against a server, and stores the command line for the report."""
        port = server.config.tls_port if load.mode == "dot" else server.port
        self._store(server, load.command(port, path))
        return dnsperf.run(load, port, path, self.options.cores.client)

    def pace(self, rate: int, seconds: float = 0.0, mode: str = "wait") -> Pace:
        """Returns a load of `rate` queries a second, for `seconds` or for `Options.seconds`.

        `Pace` describes the modes.
        """
        return Pace(rate, seconds or (SMOKE_SECONDS if self.options.smoke else self.options.seconds), mode)

    def run_pace(self, server: Server, pace: Pace, path: Path) -> pacing.Figures:
        """Sends the queries in `path` to a server, and stores the command line for the report.

        Raises BrokenError if queries were lost, or if responses are not NOERROR.
        """
        figures = pacing.finish(self.start_pace(server, pace, path))
        pacing.check(figures, lost=0.5 if self.options.smoke else 0.01)
        return figures

    def start_pace(self, server: Server, pace: Pace, path: Path) -> subprocess.Popen[bytes]:
        """Starts to send the queries in `path` at even intervals, and stores the command line for the report."""
        program = pacing.compiled("pace", self.folder)
        self._store(server, pace.command(program, server.port, path))
        return pacing.start(pace, program, server.port, path, self.options.cores.client)

    def _store(self, server: Server, command: Sequence[str]) -> None:
        self.commands.setdefault(server.name, []).append(" ".join(command).replace(str(self.folder), "."))

    def warm(self, server: Server, path: Path, *, mode: str = "udp") -> None:
        """Sends the queries in `path` several times, so that the server's caches have every answer.

        With several workers, the queries are sent more often, because each worker has its own caches.
        """
        for _ in range(2 if server.config.workers == 1 else 6 * server.config.workers):
            port = server.config.tls_port if mode == "dot" else server.port
            dnsperf.run(Load(seconds=0, mode=mode), port, path, self.options.cores.client)

    def check(self, figures: Figures, nxdomain: float) -> None:
        """Raises BrokenError if queries were lost, or if response codes are wrong. In a smoke run, half may be lost.

        `nxdomain` is the expected share of NXDOMAIN responses.
        """
        dnsperf.check(figures, nxdomain, lost=0.5 if self.options.smoke else 0.01)

    @contextmanager
    def catching_failures(self, scenario: str, server: str) -> Iterator[None]:
        """Catches BrokenError and TimeoutError of one server, so that the other servers are still measured.

        The failure is printed, and added to `broken`.
        """
        try:
            yield
        except (BrokenError, TimeoutError) as error:
            self.broken.append(f"{scenario}, {server}: {error}")
            self.progress(f"{scenario} is broken for {server}: {error}\n")

    # -- rows

    def row(self, scenario: str, measure: str, unit: str, *targets: Target) -> Row:
        """Adds an empty row to the results table, and returns the row."""
        row = Row(scenario, measure, unit, targets=targets)
        self.rows.append(row)
        return row

    def parts(self, rows: list[Row], *, targets: bool = False) -> list[Part]:
        """Returns the two parts of a scenario: without and with a process that empties the CPU caches.

        A part is a list of rows and a context manager for the measurement. The second part gets rows of its own, with
        the targets of `rows` if `targets` is true. The second part is missing if no C program can be compiled.
        """
        undisturbed: Part = (rows, nullcontext)
        if pacing.why_unavailable():
            return [undisturbed]
        disturbed = []
        for row in rows:
            made = self.row(row.scenario, f"{row.measure}{NEIGHBOUR}", row.unit, *(row.targets if targets else ()))
            row.beside_neighbour = made
            disturbed.append(made)
        return [undisturbed, (disturbed, lambda: pacing.neighbour(self.folder, self.options.cores.server))]

    def rounds(self, scenario: str) -> Iterator[int]:
        """Yields the number of each round, and prints a progress message before the round."""
        for number in range(self.options.rounds):
            self.progress(f"{scenario}: round {number + 1} of {self.options.rounds}")
            yield number

    def progress(self, text: str) -> None:
        """Prints a message on standard error. On a terminal, the message overwrites the previous one."""
        line = f"[{time.monotonic() - self._begun:5.0f} s] {text}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}")
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


Scenario = Callable[[Run], None]


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Disables Python's garbage collector during a measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
