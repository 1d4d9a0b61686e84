"""What every scenario gets: the options of the run, stages that it may share with others, and a place for rows and progress."""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench import dnsperf
from bench.asking import write_questions
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Figures, Load
from bench.results import OURS, Row, Target
from bench.servers import Cores, Server, Stage


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    servers: list[str]
    services: int = 10_000
    seconds: int = 5
    rounds: int = 3
    changes: int = 1_000_000
    cores: Cores = field(default_factory=lambda: Cores((0,), (1,)))
    smoke: bool = False
    """Everything small and once: shows that scenarios work, and nothing else."""


class Run:
    """A run of scenarios. A context manager: ends the stages."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rows: list[Row] = []
        self.commands: dict[str, list[str]] = {}
        self.broken: list[str] = []
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="svcdns-questions-")))
        self._shared: Stage | None = None
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- servers

    def peers(self, *wanted: str) -> list[str]:
        """svcdns and those of the wanted servers that take part."""
        return [name for name in self.options.servers if name == OURS or name in wanted]

    def shared(self) -> Stage:
        """All servers with a cluster of the usual size, one endpoint a Service; started when first needed."""
        if self._shared is None:
            self.say("starting the servers")
            self._shared = self._stack.enter_context(self.stage(Cluster(self.options.services), self.options.servers))
        return self._shared

    def stage(self, cluster: Cluster, servers: Sequence[str], *, workers: int = 1, wait: bool = True, prefix: Sequence[str] = ()) -> Stage:
        """Servers of a scenario's own; `prefix` goes before each server's command."""
        return Stage(cluster, servers, self.options.cores, workers=workers, wait=wait, prefix=prefix)

    # -- asking

    def questions(self, name: str, lines: Sequence[str] | Iterator[str]) -> Path:
        """An input for dnsperf."""
        return write_questions(self.folder / name, lines)

    def load(self, rate: int = 0, *, tcp: bool = False) -> Load:
        """A load of the options' seconds, or of the input once."""
        return Load(seconds=0 if self.options.smoke else self.options.seconds, rate=rate, tcp=tcp)

    def ask(self, server: Server, load: Load, path: Path) -> Figures:
        """Asks with dnsperf; keeps the command."""
        command = " ".join(load.command(server.port, path)).replace(str(self.folder), ".")
        self.commands.setdefault(server.name, []).append(command)
        return dnsperf.run(load, server.port, path, self.options.cores.asker)

    def warm(self, server: Server, path: Path, *, tcp: bool = False) -> None:
        """Asks an input twice: what is asked a second time is what caches keep. Of more workers each has a cache, and any may be asked."""
        for _ in range(2 if server.site.workers == 1 else 6 * server.site.workers):
            dnsperf.run(Load(seconds=0, tcp=tcp), server.port, path, self.options.cores.asker)

    def check(self, figures: Figures, absent: float) -> None:
        """Holds a run of dnsperf to what it asked; losses alone do not break a smoke run, which shares its cores. Raises BrokenError."""
        dnsperf.check(figures, absent, lost=0.5 if self.options.smoke else 0.01)

    @contextmanager
    def trying(self, scenario: str, server: str) -> Iterator[None]:
        """What breaks within is said and kept in `broken`, and the other servers are measured all the same."""
        try:
            yield
        except (BrokenError, TimeoutError) as error:
            self.broken.append(f"{scenario}, {server}: {error}")
            self.say(f"{scenario} is broken for {server}: {error}\n")

    # -- rows

    def row(self, scenario: str, measure: str, unit: str, *targets: Target) -> Row:
        """A new row of the table."""
        row = Row(scenario, measure, unit, targets=targets)
        self.rows.append(row)
        return row

    def rounds(self, scenario: str) -> Iterator[int]:
        """Counts the rounds, and says so."""
        for number in range(self.options.rounds):
            self.say(f"{scenario}: round {number + 1} of {self.options.rounds}")
            yield number

    def say(self, text: str) -> None:
        """Progress: one line that is written over on a terminal, lines elsewhere."""
        line = f"[{time.monotonic() - self._begun:5.0f} s] {text}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}")
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


Scenario = Callable[[Run], None]


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Keeps Python's garbage collector from disturbing what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
