"""Starts and stops name servers.

Each server that watches a cluster has its own API server.
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
    """The cores for the name servers, and the cores for the load generators."""

    server: Sequence[int]
    client: Sequence[int]


class Server:
    """A running name server, with the API server that it watches, if any."""

    def __init__(
        self,
        name: str,
        config: peers.ServerConfig,
        folder: Path,
        cores: Cores,
        api: Helper | None,
        prefix: Sequence[str] = (),
    ) -> None:
        """Starts the server without waiting until it is ready. The words in `prefix` are put before its command."""
        self.name, self.config, self.port, self._api = name, config, config.port, api
        self.command = [*prefix, *peers.CONFIGURED[name](config, folder)]
        self.corefile = folder / "Corefile"
        self._log = folder / "log"
        self.start(cores)

    def start(self, cores: Cores) -> None:
        """Starts the server, or starts it again after it has ended. Appends its output to the log."""
        with self._log.open("ab") as log:
            self.begun = time.monotonic()
            folder = Path.cwd() if self.name == "svcdns" else self._log.parent
            self.process = spawn(self.command, cores.server, cwd=folder, stdout=log, stderr=log)

    @property
    def api(self) -> Helper:
        """Returns the API server that this server watches. Raises AssertionError if there is none."""
        assert self._api is not None
        return self._api

    def wait(self) -> float:
        """Waits until the server is ready, and answers for the Service with the highest number if the cluster has one.

        Returns the seconds since the start. Raises BrokenError if the server exits or does not answer in time.
        """
        client = Client(self.port, 0.2)
        try:
            if self.name in peers.WATCHERS:
                until("/ready", self._ready, TIMEOUT)
            if self.config.cluster.services:
                until("the first correct answer", lambda: self._alive() and self._is_correct(client), TIMEOUT)
        except TimeoutError as error:
            raise BrokenError(f"{self.name}: {error}: {self.log()}") from error
        finally:
            client.close()
        return time.monotonic() - self.begun

    def _is_correct(self, client: Client) -> bool:
        """Returns True if the server's answer for the Service with the highest number has the right address."""
        cluster = self.config.cluster
        last = cluster.services - 1
        return has_address(client.query(make_query(cluster.fqdn(last))), cluster.addresses(last)[0])

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
        """Returns the last 1,000 characters of the server's log."""
        return self._log.read_text(errors="replace")[-1000:].strip()

    def whole_log(self) -> str:
        """Returns the whole log of the server."""
        return self._log.read_text(errors="replace")

    def page(self, name: str) -> tuple[int, str]:
        """Returns status and text of the server's page /ready or /metrics. Returns (0, "") if its port is closed."""
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
        """Returns the sum of all time series of a metric on the server's page /metrics."""
        return sum(
            float(found[1])
            for found in re.finditer(rf"^{name}(?:{{.*}})? (\S+)$", self.page("metrics")[1], re.MULTILINE)
        )

    def cpu(self) -> float:
        """Returns the CPU seconds that the server's processes have used."""
        return cpu_seconds(self.process.pid)

    def pss(self) -> float:
        """Returns the memory of the server's processes, in MiB of PSS."""
        return pss_mib(self.process.pid)

    def reload(self) -> None:
        """Requests a reload of the Corefile (SIGUSR1). Does not wait for it."""
        self.process.send_signal(signal.SIGUSR1)

    def relist(self) -> float:
        """Makes the server list all objects again. Returns the seconds until its watches are open again.

        The API server clears its history, and ends all watches with 410. Raises BrokenError after a timeout.
        """
        begin = time.monotonic()
        self.api.request("relist")
        try:
            until("the watches", lambda: self.watching() or self._gone(), TIMEOUT, 0.01)
        except TimeoutError as error:
            raise BrokenError(f"{self.name}: the watches are not open again: {self.log()}") from error
        return time.monotonic() - begin

    def watching(self) -> bool:
        """Returns True if the server has an open watch for every resource."""
        return all(self.api.request("watches").values())

    def _gone(self) -> bool:
        return not self._alive()

    def stop(self) -> None:
        """Kills the server and its API server."""
        kill_tree(self.process)
        if self._api is not None:
            self._api.close()


class ServerGroup:
    """Several name servers that serve the same cluster and share one upstream.

    The class is a context manager, which stops all of them at the end.
    """

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
        plugins: str = "",
        tls: bool = False,
        addresses: Sequence[str] = ("127.0.0.1",),
    ) -> None:
        """Starts the servers. If `wait` is true, waits until each server answers before the next one is started.

        The words in `prefix` are put before each command. If `streams` is true, the API servers have streamed lists.
        The lines `plugins` are added to the server block of svcdns and CoreDNS. If `tls` is true, the servers also
        serve DNS over TLS. NSD listens on `addresses`.
        """
        self._addresses = tuple(addresses)
        self._streams, self._plugins, self._tls = streams, plugins, tls
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
        ports = free_ports(5)
        config = peers.ServerConfig(
            self.cluster,
            ports[0],
            upstream,
            api.port if api else 0,
            workers,
            dict(zip(("health", "ready", "metrics"), ports[1:4], strict=True)),
            plugins=self._plugins,
            addresses=self._addresses,
            tls_port=ports[4] if self._tls else 0,
        )
        try:
            self.servers[name] = Server(name, config, folder, cores, api, prefix)
        except BaseException:
            if api is not None:
                api.close()
            raise
        self._stack.callback(self.servers[name].stop)

    def close(self) -> None:
        """Stops all servers, their API servers and the upstream."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
