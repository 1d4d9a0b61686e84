"""Measures servers that report every query and reply to a dnstap reader (`fstrm_capture`)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import pacing, queries
from bench.cluster import Cluster
from bench.processes import spawn, until
from bench.results import Target
from bench.run import Run
from bench.throughput import CPU, hits_of, measure, write_files

PACED = 5_000
"""Queries a second, one at a time, for the latency."""


def dnstap(run: Run) -> None:
    """Measures CPU per answer and latency for A queries of random Services, with whole packets in the messages."""
    if not shutil.which("fstrm_capture"):
        run.progress("leaving out dnstap: fstrm_capture is not in PATH\n")
        return
    rows = [run.row("dnstap", CPU, "µs", Target(1, "coredns")), run.row("dnstap", "answers", "1/s")]
    latencies = [run.row("dnstap", f"latency {name}", "µs", Target(1, "coredns")) for name in ("p50", "p99")]
    cluster = Cluster(run.options.services)
    measured, warm = write_files(run, "dnstap", hits_of(run, cluster), queries.every_name(cluster))
    with (
        _reader(run) as path,
        run.server_group(cluster, run.peers("coredns"), plugins=f"dnstap {path} full\n") as group,
    ):
        for _ in run.rounds("dnstap"):
            for server in group.servers.values():
                with run.catching_failures("dnstap", server.name):
                    run.warm(server, warm)
                    measure(run, server, run.load(), measured, 0.0, rows)
                    if not pacing.why_unavailable():
                        figures = run.run_pace(server, run.pace(PACED), measured)
                        for row, figure in zip(latencies, (figures.p50, figures.p99), strict=True):
                            row.add(server.name, figure)


@contextmanager
def _reader(run: Run) -> Iterator[Path]:
    """Runs `fstrm_capture` on the cores of the load generators, and yields the path of its socket."""
    with TemporaryDirectory(prefix="svcdns-dnstap-") as folder:
        path = Path(folder) / "socket"
        command = ["fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-u", str(path), "-w", "/dev/null"]
        process = spawn(command, run.options.cores.client, stderr=subprocess.DEVNULL)
        try:
            until("the dnstap reader", path.exists, 10)
            yield path
        finally:
            process.terminate()
            process.wait()
