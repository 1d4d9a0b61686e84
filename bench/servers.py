"""Starts and stops name servers. Each has its own API server, so that no server bears the cost of another one's
changes.
"""

from __future__ import annotations

import re
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench import peers
from bench.client import Client, has_address, make_query
from bench.cluster import Cluster
from bench.dnsperf import BrokenError
from bench.processes import Helper, cpu_seconds, free_ports, kill_tree, pss_mib, spawn, until

TIMEOUT = 120.0


@dataclass(frozen=True)
class Cores:
    """The cores of the servers, and those of the load generators."""

    server: Sequence[int]
    client: Sequence[int]


class Server:
    """One running name server."""

    def __init__(
        self,
        name: str,
        config: peers.ServerConfig,
        folder: Path,
        cores: Cores,
        api: Helper | None,
        prefix: Sequence[str] = (),
    ) -> None:
        """Starts the server without waiting for it. `prefix` goes before its command."""
        self.name, self.config, self.port, self._api = name, config, config.port, api
        self.command = [*prefix, *peers.CONFIGURED[name](config, folder)]
        self.corefile = folder / "Corefile"
        self._log = folder / "log"
        self.start(cores)

    def start(self, cores: Cores) -> None:
        """Starts the server, or starts it again after it has ended. The log is appended to."""
        with self._log.open("ab") as log:
            self.begun = time.monotonic()
            folder = Path.cwd() if self.name == "svcdns" else self._log.parent
            self.process = spawn(self.command, cores.server, cwd=folder, stdout=log, stderr=log)

    @property
    def api(self) -> Helper:
        """Its API server."""
        assert self._api is not None
        return self._api

    def wait(self) -> float:
        """Waits until it is ready and answers for the last Service. Returns the seconds since its start. Raises
        BrokenError.
        """
        cluster = self.config.cluster
        last = cluster.services - 1
        query, wanted = make_query(cluster.fqdn(last)), cluster.addresses(last)[0]
        client = Client(self.port, 0.2)
        try:
            if self.name in peers.WATCHERS:
                until("/ready", self._ready, TIMEOUT)
            until(
                "the first correct answer", lambda: self._alive() and has_address(client.query(query), wanted), TIMEOUT
            )
        except TimeoutError as error:
            raise BrokenError(f"{self.name}: {error}: {self.log()}") from error
        finally:
            client.close()
        return time.monotonic() - self.begun

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.config.http_ports['ready']}/ready", timeout=5
            ) as response:
                return self._alive() and response.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return not self._alive()

    def _alive(self) -> bool:
        if self.process.poll() is not None:
            raise BrokenError(f"{self.name} exited with {self.process.returncode}: {self.log()}")
        return True

    def log(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-1000:].strip()

    def whole_log(self) -> str:
        """Its whole log."""
        return self._log.read_text(errors="replace")

    def page(self, name: str) -> tuple[int, str]:
        """Status and text of /ready or /metrics; (0, "") if the port is closed."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.config.http_ports[name]}/{name}", timeout=3
            ) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, ""
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """The sum of all series of a metric."""
        return sum(
            float(found[1])
            for found in re.finditer(rf"^{name}(?:{{.*}})? (\S+)$", self.page("metrics")[1], re.MULTILINE)
        )

    def cpu(self) -> float:
        """CPU seconds of all its processes so far."""
        return cpu_seconds(self.process.pid)

    def pss(self) -> float:
        """PSS of all its processes, MiB."""
        return pss_mib(self.process.pid)

    def reload(self) -> None:
        """Reloads the Corefile."""
        self.process.send_signal(signal.SIGUSR1)

    def relist(self) -> float:
        """Clears the history of the API server and ends all watches. Returns the seconds until they are open again.
        Raises BrokenError.
        """
        begin = time.monotonic()
        self.api.request("relist")
        try:
            until("the watches", lambda: self.watching() or self._gone(), TIMEOUT, 0.01)
        except TimeoutError as error:
            raise BrokenError(f"{self.name}: the watches are not open again: {self.log()}") from error
        return time.monotonic() - begin

    def watching(self) -> bool:
        """True if it watches every resource."""
        return all(self.api.request("watches").values())

    def _gone(self) -> bool:
        return not self._alive()

    def stop(self) -> None:
        """Kills it and ends its API server."""
        kill_tree(self.process)
        if self._api is not None:
            self._api.close()


class ServerGroup:
    """Several servers with the names of one cluster. A context manager that stops all of them."""

    def __init__(
        self,
        cluster: Cluster,
        names: Sequence[str],
        cores: Cores,
        *,
        workers: int = 1,
        wait: bool = True,
        prefix: Sequence[str] = (),
        streams: bool = False,
    ) -> None:
        """Starts the servers. `prefix` goes before each command; with `streams` the API servers
        offer streamed lists.
        """
        self._streams = streams
        self.cluster = cluster
        self.servers: dict[str, Server] = {}
        self.started: dict[str, float] = {}
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="svcdns-bench-")))
        try:
            upstream = Helper("bench.upstream", cpus=cores.client)
            self._stack.callback(upstream.close)
            for name in names:
                self._start(name, upstream.port, cores, workers, prefix)
                if wait:
                    self.started[name] = self.servers[name].wait()
        except BaseException:
            self.close()
            raise

    def _start(self, name: str, upstream: int, cores: Cores, workers: int, prefix: Sequence[str]) -> None:
        api = None
        if name in peers.WATCHERS:
            size = ["--services", str(self.cluster.services), "--endpoints", str(self.cluster.endpoints)]
            size += ["--streams"] if self._streams else []
            api = Helper("bench.api", *size, cpus=cores.client)
        folder = self._folder / name
        folder.mkdir()
        ports = free_ports(4)
        config = peers.ServerConfig(
            self.cluster,
            ports[0],
            upstream,
            api.port if api else 0,
            workers,
            dict(zip(("health", "ready", "metrics"), ports[1:], strict=True)),
        )
        try:
            self.servers[name] = Server(name, config, folder, cores, api, prefix)
        except BaseException:
            if api is not None:
                api.close()
            raise
        self._stack.callback(self.servers[name].stop)

    def close(self) -> None:
        """Stops everything."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
