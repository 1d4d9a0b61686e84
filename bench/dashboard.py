"""Draws the panels of the Grafana dashboard from a real Prometheus: `python -m bench.dashboard --minutes 10`.

Two replicas answer dnsperf's queries while endpoints change. One replica is restarted. A Prometheus scrapes both. Each
expression of deploy/monitoring/dashboard.json is then evaluated over this time, and drawn into one SVG file. Grafana is
not used: colours and shapes are those of this module.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from bench import dnsperf, queries
from bench.client import write_queries
from bench.cluster import Cluster
from bench.dnsperf import Load
from bench.plot import DARK, dark_style
from bench.processes import free_ports, kill_tree, spawn, until
from bench.run import Options
from bench.servers import Cores, Server, ServerGroup

ROOT: Final = Path(__file__).parents[1]
DASHBOARD: Final = ROOT / "deploy" / "monitoring" / "dashboard.json"
SCRAPE: Final = 5
"""Seconds between two scrapes."""
COLUMN: Final = 50
LINE: Final = 24
"""Pixels of a column and of a line of the dashboard's grid."""
COLOURS: Final = ("#0b6bcb", "#2e7d32", "#b26a00", "#7b1fa2", "#c62828", "#00838f", "#6d4c41", "#546e7a")
PREFIXES: Final = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6))
DARK_COLOURS: Final = DARK | {"#00838f": "#4dc4cf", "#546e7a": "#9db2bb", "#ccc": "#3a4149"}
UNITS: Final = {"s": "s", "reqps": "/s", "pps": "/s", "bytes": "B", "short": "", "percentunit": "%"}


@dataclass(frozen=True)
class Series:
    """One line of a panel: its name, and pairs of a time and a value."""

    name: str
    points: list[tuple[float, float]]


class Prometheus:
    """A client of Prometheus's HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def range(self, expression: str, begin: float, end: float, legend: str) -> list[Series]:
        """Evaluates an expression of the dashboard at 120 moments. Returns a series for each combination of labels."""
        promql = expression.replace("$job", ".*").replace("$instance", ".*")
        promql = promql.replace("$__rate_interval", f"{4 * SCRAPE}s")
        step = max(SCRAPE, (end - begin) / 120)
        query = urllib.parse.urlencode({"query": promql, "start": begin, "end": end, "step": step})
        with urllib.request.urlopen(f"{self.url}/api/v1/query_range?{query}", timeout=30) as response:
            found = json.load(response)["data"]["result"]
        return [Series(name_of(legend, one["metric"]), numbers(one["values"])) for one in found]

    def is_ready(self) -> bool:
        """Returns True if Prometheus answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def name_of(legend: str, labels: dict[str, str]) -> str:
    """Returns a legend with the values of labels in the place of `{{label}}`."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)


def numbers(values: list[tuple[float, str]]) -> list[tuple[float, float]]:
    """Returns the points whose value is a finite number."""
    return [(float(moment), float(value)) for moment, value in values if math.isfinite(float(value))]


# -- drawing


def draw(dashboard: dict[str, Any], prometheus: Prometheus, begin: float, end: float, note: str) -> str:
    """Returns the dashboard as SVG."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * LINE + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {height}" font-family="sans-serif" '
        f'font-size="11" fill="#222">\n{dark_style(DARK_COLOURS)}\n<rect width="{24 * COLUMN}" height="{height}" fill="#fff"/>'
    ]
    for panel in panels:
        place = panel["gridPos"]
        x, y, width, tall = (place[k] * unit for k, unit in zip("xywh", (COLUMN, LINE, COLUMN, LINE), strict=True))
        if panel["type"] == "row":
            parts.append(f'<text x="6" y="{y + 17}" font-size="15" font-weight="bold">{escape(panel["title"])}</text>')
            continue
        series = [
            one
            for target in panel["targets"]
            for one in prometheus.range(target["expr"], begin, end, target["legendFormat"])
        ]
        parts.append(
            f'<rect x="{x + 3}" y="{y + 3}" width="{width - 6}" height="{tall - 6}" fill="none" stroke="#ccc"/>'
        )
        parts.append(f'<text x="{x + 10}" y="{y + 19}" font-weight="bold">{escape(panel["title"])}</text>')
        unit = panel["fieldConfig"]["defaults"]["unit"]
        parts += stat(series, unit, x, y, width) if panel["type"] == "stat" else lines(
            series, unit, (x + 52, y + 36, width - 66, tall - 92), begin, end
        )  # fmt: skip
    parts.append(f'<text x="6" y="{height - 10}">{escape(note)}</text>\n</svg>\n')
    return "\n".join(parts)


def stat(series: Sequence[Series], unit: str, x: int, y: int, width: int) -> Iterator[str]:
    """Yields the last value as a large text."""
    last = [one.points[-1][1] for one in series if one.points]
    text = value_text(last[0], unit) if last else "no data"
    yield f'<text x="{x + width // 2}" y="{y + 64}" font-size="26" text-anchor="middle">{text}</text>'


def lines(
    series: Sequence[Series], unit: str, area: tuple[int, int, int, int], begin: float, end: float
) -> Iterator[str]:
    """Yields the axes, a line for each series, and the legend. The y axis begins at 0."""
    left, top, width, height = area
    top_value = nice(max((value for one in series for _, value in one.points), default=0.0))
    for share in (0, 0.5, 1):
        y = top + height * (1 - share)
        yield f'<path d="M{left} {y:.0f}h{width}" stroke="#ddd"/>'
        yield f'<text x="{left - 4}" y="{y + 4:.0f}" text-anchor="end">{value_text(top_value * share, unit)}</text>'
    if not any(one.points for one in series):
        yield f'<text x="{left + width // 2}" y="{top + height // 2}" text-anchor="middle">no data</text>'
    row, column = 0, 0
    for number, one in enumerate(sorted(series, key=lambda one: -max((v for _, v in one.points), default=0))[:8]):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{left + width * (moment - begin) / (end - begin):.1f},{top + height * (1 - value / top_value):.1f}"
            for moment, value in one.points
        )
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
        name = one.name if len(one.name) < 26 else one.name[:25] + "…"
        if column and column + 7 * len(name) + 20 > width + 40:
            row, column = row + 1, 0
        if row < 3:
            x, y = left - 40 + column, top + height + 18 + 14 * row
            yield f'<rect x="{x}" y="{y - 8}" width="9" height="9" fill="{colour}"/>'
            yield f'<text x="{x + 13}" y="{y}">{escape(name)}</text>'
        column += 7 * len(name) + 22


def nice(value: float) -> float:
    """Returns the smallest of 1, 2 and 5 times a power of ten that is at least a value; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value * 0.999999)


def value_text(value: float, unit: str) -> str:
    """Returns a number with its unit, shortened by a prefix such as k or m."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    allowed = PREFIXES[:4] if unit == "short" or value == 0 else PREFIXES
    prefix, size = next((one for one in allowed if abs(value) >= one[1]), allowed[-1])
    return f"{value / size:.3g} {prefix}{UNITS[unit]}".strip()


# -- the running servers


@contextmanager
def running(folder: Path, targets: Sequence[int]) -> Iterator[Prometheus]:
    """Runs a Prometheus that scrapes the pages /metrics on these ports of 127.0.0.1."""
    [port] = free_ports(1)
    addresses = [f"127.0.0.1:{target}" for target in targets]
    config = {
        "global": {"scrape_interval": f"{SCRAPE}s"},
        "scrape_configs": [{"job_name": "kube-dns", "static_configs": [{"targets": addresses}]}],
    }
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [
        shutil.which("prometheus") or "prometheus",
        f"--config.file={path}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = spawn(
            [*command, f"--storage.tsdb.path={folder / 'data'}"],
            sorted(os.sched_getaffinity(0)),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        until("Prometheus", prometheus.is_ready, 60, 0.1)
        yield prometheus
    finally:
        kill_tree(process)


def under_load(servers: Sequence[Server], seconds: int, cores: Cores, folder: Path) -> None:
    """Sends queries to the servers, changes endpoints, and restarts the second server in the middle."""
    cluster = servers[0].config.cluster
    names = [*queries.mix(cluster, 20_000).lines, *(f"service-{k}. A" for k in range(200))]
    names += [f"no-{k}.team-1.svc.cluster.local. AAAA" for k in range(500)]
    path = write_queries(folder / "queries", names)
    loads: list[threading.Thread] = []
    for number, server in enumerate(servers):
        server.api.request(f"churn 5 {seconds}")
        kinds = (Load(seconds, 400 + 150 * number, 32, 1000), Load(seconds, 30, 4, 100, "tcp"))
        loads += [threading.Thread(target=dnsperf.run, args=(load, server.port, path, cores.client)) for load in kinds]
    for thread in loads:
        thread.start()
    time.sleep(seconds / 2)
    servers[-1].process.send_signal(signal.SIGTERM)
    servers[-1].process.wait(30)
    servers[-1].start(cores)
    for thread in loads:
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Runs the servers, the load and Prometheus, and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "pictures" / "dashboard.svg")
    options = parser.parse_args(arguments)
    os.environ["SVCDNS_LEAK_GUARD"] = "count"
    cores = Options(["svcdns"]).cores
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        groups = [stack.enter_context(ServerGroup(Cluster(1_000, 5), ["svcdns"], cores)) for _ in range(2)]
        servers = [group.servers["svcdns"] for group in groups]
        ports = [server.config.http_ports["metrics"] for server in servers]
        prometheus = stack.enter_context(running(folder, ports))
        begin = time.time()
        under_load(servers, int(options.minutes * 60), cores, folder)
        version = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True).stdout.split()
        note = f"Drawn by bench/dashboard.py from Prometheus {version[2]}; two replicas, {options.minutes:g} minutes."
        dashboard = json.loads(DASHBOARD.read_text())
        options.to.write_text(draw(dashboard, prometheus, begin + 5 * SCRAPE, time.time(), note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
