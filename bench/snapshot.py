"""Start without an API server, from a snapshot: `python -m bench.snapshot`.

svcdns watches an API server (`bench.api`) until it has written its snapshot. Then both are stopped, and svcdns is
started several times. The figures are the times from exec to the first correct answer for the last Service, to correct
answers for a sample of names, and to /ready, in seconds. The table has the median and the maximum of the rounds.
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
from functools import partial
from pathlib import Path

from bench import machine, peers
from bench.client import Client, has_address, make_query
from bench.cluster import Cluster
from bench.dnsperf import BrokenError
from bench.processes import Helper, free_ports, kill_tree, spawn, until

TIMEOUT = 60.0
SAMPLE = 100
"""Names in the sample."""
COLUMNS = ("first correct answer", f"{SAMPLE} names answered correctly", "/ready")


def main(arguments: list[str] | None = None) -> int:
    """Measures the starts from a snapshot, and prints the table. Returns the exit code."""
    chosen = _parser().parse_args(arguments)
    cluster = Cluster(chosen.services, chosen.endpoints)
    cores = tuple(map(int, chosen.cores.split(",")))
    places = {f"on {len(cores)} cores": cores, "on one core": cores[:1]} if len(cores) > 1 else {"on one core": cores}
    with tempfile.TemporaryDirectory(prefix="svcdns-bench-") as name:
        start = _Start(Path(name), cluster)
        size = start.write_snapshot(cores)
        rows = {label: [start.measure(where) for _ in range(chosen.rounds)] for label, where in places.items()}
    environment = machine.environment([])
    print(f"{environment['cpu']}, Python {environment['python']}, commit {environment['commit']}")
    print(
        f"{chosen.services:,} Services × {chosen.endpoints}, snapshot of {size / 1e6:.1f} MB, {chosen.rounds} starts\n"
    )
    print(f"| seconds from exec, median and maximum | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for label, times in rows.items():
        cells = [f"{statistics.median(one):.2f}, at most {max(one):.2f}" for one in zip(*times, strict=True)]
        print(f"| {label} | {' | '.join(cells)} |")
    return 0


class _Start:
    """A server that writes its snapshot to a folder, and starts from it."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._folder, self._cluster = folder, cluster
        self._ports = free_ports(5)

    def _run(self, cores: Sequence[int]) -> float:
        """Starts the server. Returns the time of the start on the monotonic clock."""
        port, health, ready, metrics, api = self._ports
        config = peers.ServerConfig(
            self._cluster, port, 9, api, 1, {"health": health, "ready": ready, "metrics": metrics}
        )
        path = peers.corefile(config, self._folder)
        path.write_text(
            path.read_text().replace("pods insecure", f"pods insecure\n       snapshot {self._folder}/state")
        )
        begun = time.monotonic()
        with (self._folder / "log").open("wb") as log:
            self._process = spawn(
                [sys.executable, "-I", "-m", "svcdns", "-conf", str(path)], cores, stdout=log, stderr=log
            )
        return begun

    def _alive(self) -> bool:
        if self._process.poll() is not None:
            raise BrokenError(f"svcdns exited with {self._process.returncode}: {(self._folder / 'log').read_text()}")
        return True

    def write_snapshot(self, cores: Sequence[int]) -> int:
        """Runs a server until it has written its snapshot. Returns the size of the snapshot in octets."""
        size = ("--services", str(self._cluster.services), "--endpoints", str(self._cluster.endpoints))
        with closing(Helper("bench.api", *size, cpus=cores)) as api:
            self._ports[-1] = api.port
            self._run(cores)
            try:
                until("/ready", self._ready, TIMEOUT)
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(TIMEOUT)
            finally:
                kill_tree(self._process)
        (file,) = (self._folder / "state").glob("*.snapshot")
        return file.stat().st_size

    def measure(self, cores: Sequence[int]) -> tuple[float, float, float]:
        """Starts the server. Returns the seconds from exec to each of the events in COLUMNS."""
        services = self._cluster.services
        sample = [services - 1, *range(0, services, max(1, services // SAMPLE))]
        begun = self._run(cores)
        times = []
        try:
            with closing(Client(self._ports[0], 0.05)) as client:
                for number in sample:
                    until("a correct answer", partial(self._answers, client, number), TIMEOUT)
                    times.append(time.monotonic() - begun)
            until("/ready", self._ready, TIMEOUT)
            return times[0], times[-1], time.monotonic() - begun
        finally:
            kill_tree(self._process)

    def _answers(self, client: Client, number: int) -> bool:
        """Returns True if the response has the address of the Service with this number.

        Raises BrokenError if the server has exited.
        """
        query, address = make_query(self._cluster.fqdn(number)), self._cluster.addresses(number)[0]
        return self._alive() and has_address(client.query(query), address)

    def _ready(self) -> bool:
        self._alive()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[2]}/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "python -m bench.snapshot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--services", type=int, default=10_000, help="of the cluster (%(default)s)")
    made.add_argument("--endpoints", type=int, default=10, help="of each Service (%(default)s)")
    made.add_argument("--rounds", type=int, default=10, help="starts (%(default)s)")
    made.add_argument("--cores", default="0,1", help="of the server, separated by commas (%(default)s)")
    return made


if __name__ == "__main__":
    sys.exit(main())
