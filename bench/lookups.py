"""Clients that send queries at a steady rate, and record each lookup with its result.

`StubResolver` calls the C libraries glibc and musl. `UdpClient` queries a server over UDP. Repetitions by the C library
or the forwarder are a part of the lookup.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.rcode

from bench.network_namespace import with_name_servers
from bench.processes import spawn, until

CLIENTS = 4
"""Clients of each kind."""
GAP = 0.2
"""Seconds between two lookups of one client."""
TIMEOUT = 5.0
"""Seconds that a client waits for a reply, as resolvers do by default."""
SERVICE = "web.default"
SERVICE_ADDRESS = "10.96.0.20"
COMPILERS = {"glibc": ["cc", "-O1"], "musl": ["musl-gcc", "-static", "-O1"]}


class Lookup(NamedTuple):
    """One lookup: when it began (`time.monotonic`), its duration in seconds, and the error, empty if it succeeded."""

    began: float
    seconds: float
    error: str

    @property
    def ended(self) -> float:
        """Returns the time at which the lookup succeeded or failed."""
        return self.began + self.seconds


class StubResolver:
    """Processes that call getaddrinfo(3) of a C library, with an /etc/resolv.conf of their own."""

    def __init__(self, library: str, folder: Path, name_servers: Sequence[str]) -> None:
        folder.mkdir()
        program, self._output = folder / "lookups", folder / "output"
        subprocess.run([*COMPILERS[library], "-o", program, Path(__file__).with_suffix(".c")], check=True)
        command = [str(program), SERVICE, SERVICE_ADDRESS, str(int(GAP * 1000)), str(CLIENTS)]
        with self._output.open("ab") as output:
            cpus = sorted(os.sched_getaffinity(0))
            self._process = spawn(with_name_servers(folder, name_servers, command), cpus, stdout=output)

    def finish(self) -> None:
        """Begins no further lookups. Lookups that have begun go on."""
        os.killpg(self._process.pid, signal.SIGTERM)

    def close(self) -> None:
        """Kills the processes."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def lookups(self) -> list[Lookup]:
        """Waits until the last lookup has ended, and returns all lookups. Call it after `finish`."""
        until("the last lookup", lambda: not _running(self._process), 30.0, 0.05)
        found = []
        for line in self._output.read_text().splitlines():
            began, seconds, result = line.split(" ", 2)
            found.append(Lookup(float(began), float(seconds), "" if result == "ok" else result))
        return sorted(found)


def _running(process: subprocess.Popen[bytes]) -> bool:
    """Returns True if the process group of `process` still has a process."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def without(library: str) -> str:
    """Returns the reason why programs cannot be linked with this C library here, or an empty text if they can."""
    compiler = COMPILERS[library][0]
    return "" if shutil.which(compiler) and shutil.which("cc") else f"no {compiler} and cc in PATH"


class UdpClient:
    """Clients in a thread that send A queries over UDP to a port of 127.0.0.1. Each query has a new name and socket.

    The names are those of Pods. A query without a response is sent again, up to `attempts` times in all.
    """

    def __init__(self, port: int, *, clients: int = CLIENTS, gap: float = GAP, attempts: int = 1) -> None:
        self._target = ("127.0.0.1", port)
        self._clients, self._gap, self._attempts = clients, gap, attempts
        self._lookups: list[Lookup] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Begins no further lookups. Lookups that have begun go on."""
        self._over.set()

    close = finish

    def lookups(self) -> list[Lookup]:
        """Waits until the last lookup has ended, and returns all lookups. Call it after `finish`."""
        self._thread.join()
        return sorted(self._lookups)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        await asyncio.sleep(self._gap * number / self._clients)
        count = 0
        while not self._over.is_set():
            count += 1
            begun = time.monotonic()
            error = await self._look_up(f"10-{number}-{count // 256 % 256}-{count % 256}")
            self._lookups.append(Lookup(begun, time.monotonic() - begun, error))
            await asyncio.sleep(max(0.0, begun + self._gap - time.monotonic()))

    async def _look_up(self, pod: str) -> str:
        query = dns.message.make_query(f"{pod}.default.pod.cluster.local.", "A").to_wire()
        error = ""
        for _ in range(self._attempts):
            try:
                reply = await _exchange(query, self._target)
            except OSError as failure:  # TimeoutError too
                error = type(failure).__name__
                continue
            if reply.answer:
                return ""
            error = dns.rcode.to_text(reply.rcode())
        return error


async def _exchange(query: bytes, target: tuple[str, int]) -> dns.message.Message:
    """Returns the reply to an encoded query. Raises OSError, and TimeoutError after TIMEOUT seconds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(target)
        async with asyncio.timeout(TIMEOUT):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, query)
            return dns.message.from_wire(await loop.sock_recv(sock, 4096))


Client = StubResolver | UdpClient
