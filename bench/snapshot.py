"""A start without an API server: `python -m bench.snapshot`.

svcdns watches an API server of the bench until its snapshot is on disk, and is stopped. Then the API server is gone, and it is started
again and again: what is measured is the time from exec to the first right answer for the last Service, to the last of a sample of names
that answers right, and to /ready. The server has all its cores, then one alone. It prints a table in Markdown: the median and the worst
of the rounds, in seconds.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench import machine, peers
from bench.asking import Asker, holds, packet
from bench.cluster import Cluster
from bench.dnsperf import BrokenError
from bench.processes import Helper, end, free_ports, spawn, until

PATIENCE = 60.0
SAMPLE = 100
"""Names that are to be right before a start counts as whole."""
COLUMNS = ("the first right answer", f"{SAMPLE} names over the whole cluster right", "/ready")


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints."""
    chosen = _parser().parse_args(arguments)
    cluster = Cluster(chosen.services, chosen.endpoints)
    cores = tuple(map(int, chosen.cores.split(",")))
    places = {f"on {len(cores)} cores": cores, "on one core": cores[:1]} if len(cores) > 1 else {"on one core": cores}
    with tempfile.TemporaryDirectory(prefix="svcdns-bench-") as name:
        start = _Start(Path(name), cluster)
        size = start.keep(cores)
        rows = {label: [start.once(where) for _ in range(chosen.rounds)] for label, where in places.items()}
    facts = machine.facts([])
    print(f"{facts['cpu']}, Python {facts['python']}, commit {facts['commit']}")
    print(f"{chosen.services:,} Services × {chosen.endpoints}, snapshot of {size / 1e6:.1f} MB, {chosen.rounds} starts\n")
    print(f"| seconds from exec | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for label, times in rows.items():
        cells = [f"{statistics.median(one):.2f}, at most {max(one):.2f}" for one in zip(*times, strict=True)]
        print(f"| {label} | {' | '.join(cells)} |")
    return 0


class _Start:
    """A Corefile with a snapshot, of a server that is started in a folder."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._folder, self._cluster = folder, cluster
        self._ports = free_ports(5)

    def _run(self, cores: Sequence[int]) -> float:
        """Starts the server; when that was."""
        port, health, ready, metrics, api = self._ports
        site = peers.Site(self._cluster, port, 9, api, 1, {"health": health, "ready": ready, "metrics": metrics})
        path = peers.corefile(site, self._folder)
        path.write_text(path.read_text().replace("pods insecure", f"pods insecure\n       snapshot {self._folder}/state"))
        begun = time.monotonic()
        with (self._folder / "log").open("wb") as log:
            self._process = spawn([sys.executable, "-m", "svcdns", "-conf", str(path)], cores, stdout=log, stderr=log)
        return begun

    def _alive(self) -> bool:
        if self._process.poll() is not None:
            raise BrokenError(f"svcdns ended with {self._process.returncode}: {(self._folder / 'log').read_text()}")
        return True

    def keep(self, cores: Sequence[int]) -> int:
        """Lets a server write its snapshot; octets of that."""
        size = ("--services", str(self._cluster.services), "--endpoints", str(self._cluster.endpoints))
        with closing(Helper("bench.api", *size, cpus=cores)) as api:
            self._ports[-1] = api.port
            self._run(cores)
            try:
                until("/ready", self._ready, PATIENCE)
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(PATIENCE)
            finally:
                end(self._process)
        (file,) = (self._folder / "state").glob("*.snapshot")
        return file.stat().st_size

    def once(self, cores: Sequence[int]) -> tuple[float, float, float]:
        """Seconds from exec to each of the three."""
        services = self._cluster.services
        sample = [services - 1, *range(0, services, max(1, services // SAMPLE))]
        begun = self._run(cores)
        times = []
        try:
            with closing(Asker(self._ports[0], 0.05)) as asker:
                for number in sample:
                    question, address = packet(self._cluster.fqdn(number)), self._cluster.addresses(number)[0]
                    until("a right answer", lambda: self._alive() and holds(asker.ask(question), address), PATIENCE)  # noqa: B023
                    times.append(time.monotonic() - begun)
            until("/ready", self._ready, PATIENCE)
            return times[0], times[-1], time.monotonic() - begun
        finally:
            end(self._process)

    def _ready(self) -> bool:
        self._alive()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[2]}/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m bench.snapshot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--services", type=int, default=10_000, help="of the cluster (%(default)s)")
    made.add_argument("--endpoints", type=int, default=10, help="of each Service (%(default)s)")
    made.add_argument("--rounds", type=int, default=10, help="starts (%(default)s)")
    made.add_argument("--cores", default="0,1", help="of the server, with commas (%(default)s)")
    return made


if __name__ == "__main__":
    sys.exit(main())
