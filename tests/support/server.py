"""A real server on loopback, started as a user starts it: queries over UDP and TCP, metrics, and
waiting for a state.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import dns.message
import dns.query
import dns.rcode

from bench.processes import children, free_ports

T = TypeVar("T")
TIMEOUT = 40.0
"""The seconds after which a test gives up waiting. A loaded machine needs several seconds for a start."""
REPLY_TIMEOUT = 10.0
"""The seconds that a reply may take."""


def until(what: str, probe: Callable[[], T], timeout: float = TIMEOUT) -> T:
    """Returns the first true value that `probe` returns. Fails with `what` after `timeout` seconds."""
    begun = time.monotonic()
    pause = threading.Event()
    while True:
        found = probe()
        if found:
            return found
        waited = time.monotonic() - begun
        assert waited < timeout, f"gave up waiting for {what}"
        pause.wait(min(0.1, 0.01 + waited / 20))


def free_port() -> int:
    """Returns a port that is free for UDP and TCP on loopback, outside the range from which the kernel assigns client
    ports.
    """
    return free_ports(1)[0]


def exchange(packet: bytes, host: str, port: int, source: str | None = None, timeout: float = REPLY_TIMEOUT) -> bytes:
    """Sends a packet over UDP, and returns the reply. Raises OSError.

    The socket is connected, so that ConnectionRefusedError is raised if no program has the port yet.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        if source is not None:
            sock.bind((source, 0))
        sock.connect((host, port))
        sock.send(packet)
        return sock.recv(65535)


def http(port: int, path: str) -> tuple[int, str]:
    """Returns the status and the body of a page, or (0, "") if no program listens on the port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Server:
    """A running `svcdns`. In the Corefile, {port}, {ready}, {health}, {metrics} and {dir} are replaced."""

    def __init__(self, folder: Path, corefile: str, *arguments: str, **environ: str) -> None:
        """Starts the server. `folder` is its working directory, with the Corefile and the log."""
        self.folder = folder
        self.ports = {name: free_port() for name in ("port", "ready", "health", "metrics")}
        self.corefile = folder / "Corefile"
        self.write(corefile)
        self.log_file = folder / "log"
        self._arguments, self._environ = arguments, environ
        self.process = self.launch()

    def command(self) -> list[str]:
        """Returns the command that starts the program."""
        return [sys.executable, "-m", "svcdns"]

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts the process. The Corefile is also its standard input."""
        with self.log_file.open("wb") as log, self.corefile.open("rb") as corefile:
            return subprocess.Popen(
                [*self.command(), "-conf", str(self.corefile), *self._arguments],
                cwd=self.folder,
                env={**os.environ, **self._environ},
                stdin=corefile,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        """Returns itself without waiting. Each test waits for the state that it needs."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kills the process if it is still running."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def write(self, corefile: str) -> None:
        """Writes the Corefile, with the ports and the folder in its placeholders."""
        for name, value in {**self.ports, "dir": self.folder}.items():
            corefile = corefile.replace("{" + name + "}", str(value))
        self.corefile.write_text(corefile)

    @property
    def log(self) -> str:
        """Returns the text that the server has printed."""
        return self.log_file.read_text()

    def until_logged(self, text: str) -> None:
        until(f"{text!r} in the log", lambda: text in self.log)

    def until_serving(self) -> None:
        until("the first answer", lambda: self.process.poll() is not None or self.answers())
        assert self.process.poll() is None, self.log

    def until_ready(self) -> None:
        """Waits for /ready."""
        until("/ready", lambda: self.process.poll() is not None or http(self.ports["ready"], "/ready")[0] == 200)
        assert self.process.poll() is None, self.log

    def answers(self) -> bool:
        """Returns True if the server replies to a query."""
        return self.ask("version.bind.", "TXT", timeout=0.3) is not None

    def ask(
        self,
        name: str,
        rtype: str = "A",
        *,
        tcp: bool = False,
        host: str = "127.0.0.1",
        source: str | None = None,
        timeout: float = REPLY_TIMEOUT,
    ) -> Any:
        """Sends a query. Returns the reply, or None if no reply comes. `source` is the source address."""
        query = dns.message.make_query(name, rtype)
        port = self.ports["port"]
        try:
            if tcp:
                return dns.query.tcp(query, host, timeout, port, source=source, one_rr_per_rrset=True)
            return dns.message.from_wire(exchange(query.to_wire(), host, port, source, timeout), one_rr_per_rrset=True)
        except (OSError, dns.exception.Timeout, EOFError):
            return None

    def records(self, name: str, rtype: str = "A", **options: Any) -> list[str]:
        """Returns the sorted RDATA of the answer, or only the rcode if there is no answer."""
        reply = self.ask(name, rtype, **options)
        if reply is None:
            return ["no answer"]
        found = sorted(rrset[0].to_text() for rrset in reply.answer)
        return found or [dns.rcode.to_text(reply.rcode())]

    def children(self) -> dict[str, int]:
        """Returns the process ids of control and workers by name."""
        return children(self.process.pid)

    def metric(self, line: str) -> float:
        """Returns the sum of all series whose text matches a pattern. If the metrics page is missing during a restart
        of control, waits for the page.
        """
        page = until("the page of metrics", lambda: http(self.ports["metrics"], "/metrics")[1])
        return sum(float(found[1]) for found in re.finditer(rf"^{line}\S* (\S+)$", page, re.MULTILINE))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, waits for the end, and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)


def is_alive(pid: int) -> bool:
    """Returns True if the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
