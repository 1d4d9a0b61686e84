"""The HTTP pages /health, /ready and /metrics, and the requests that the control process itself sends to /health.

The HTTP listeners are in `http`. The content of /metrics is in `metrics`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from svcdns.control.configuration import Setup
from svcdns.control.http import HttpPages, Page
from svcdns.control.http_message import Request, Response
from svcdns.control.info_metrics import HEALTH_DURATION, HEALTH_FAILURES
from svcdns.control.page_sockets import Address, PageSockets
from svcdns.control.unix_sockets import path_of
from svcdns.control.workers import Workers
from svcdns.log_line import LogLine
from svcdns.process.shared_memory import State
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import plugin_logger

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

HEALTH: Final = "/health"
READY: Final = "/ready"
METRICS: Final = "/metrics"
PROFILES: Final = "/debug/pprof/"
TOOLS: Final = "/v1/"
STATUS: Final = "/status/"
CHECK_TIMEOUT: Final = 3.0
"""Seconds that control waits for the response of its own /health."""
SLOW: Final = 1.0
"""Requests to /health that take more seconds than this are logged."""

log = logging.getLogger("svcdns")


class Pages:
    """Serves /health, /ready and /metrics at the addresses that the Corefile configures."""

    def __init__(
        self, workers: Workers, counters: Counters, regions: list[memoryview], own: int, watching: Callable[[], bool],
        unready: Callable[[], bool], tools: Page,
    ) -> None:  # fmt: skip
        """`regions` are all regions of the shared memory. `own` is the number of this process's region.

        `watching` returns True if the Corefile has a cluster to watch. `unready` returns True while a snapshot with the
        option `not_ready` is in use. `tools` makes the pages of the plugins *admin* and *status*.
        """
        self._workers, self._counters, self._watching, self._unready = workers, counters, watching, unready
        self._regions, self._own = regions, own
        self._registry: CollectorRegistry | None = None
        self._free: set[Address] = set()
        """Addresses for which the Corefile has no port. The free port that each of them got has been logged."""
        self._http = HttpPages(
            {
                HEALTH: self._health,
                READY: self._ready,
                METRICS: self._metrics,
                PROFILES: self._profiles,
                TOOLS: tools,
                STATUS: tools,
            }
        )

    async def serve(self, setup: Setup, sockets: PageSockets | None = None, *, warns: bool = False) -> None:
        """Serves the HTTP pages that the Corefile of `setup` turns on, and no other pages.

        `sockets` has sockets that already listen on some of the addresses. If the address of /health cannot
        be bound, raises HttpListenError and changes nothing. With `warns`, logs a warning for each new port on which
        something else listens.
        """
        out: dict[Address, set[str]] = {}
        for page in setup.pages:
            out.setdefault(page.address, set()).add(page.path)
            if page.path == TOOLS:
                out[page.address].add(READY)
        wanted = {address: frozenset(paths) for address, paths in out.items()}
        await self._http.serve(wanted, sockets, setup.optional_pages, warns=warns)
        for address, paths in out.items():
            if (
                not address[1]
                and path_of(address[0]) is None
                and address not in self._free
                and self._http.listens(address)
            ):
                self._free.add(address)
                first, port = min(paths), self._http.port(address)
                log.info(LogLine("a page has a free port, as the Corefile has none", page=first, port=port))

    async def unready(self) -> None:
        """Stops serving /ready: during a stop, the Pod must not get new clients."""
        await self._http.without(READY)

    async def close(self) -> None:
        """Stops serving all pages."""
        await self._http.serve({})

    def _health(self, _request: Request) -> Response:
        return Response(b"OK") if self._workers.healthy() else Response(b"no worker answers", 503)

    def _ready(self, _request: Request) -> Response:
        states = self._workers.states()
        unready = self._unready()
        if all(one == State.SERVING for one in states) and not unready:
            return Response(b"OK")
        unsynced = unready or any(one in (State.UNSYNCED, State.SERVING_UNSYNCED, State.STARTING) for one in states)
        names = "kubernetes" if unsynced and self._watching() else "worker"
        plugin_logger("ready").info('Plugins not ready: "%s"', names)
        return Response(names.encode(), 503)

    def _metrics(self, request: Request) -> Response:
        from svcdns.control import metrics  # here, because its library is not needed for a start

        if self._registry is None:
            self._registry = metrics.registry(self._regions, self._own)
        body, content_type = metrics.page(self._registry, request.headers.get("accept", ""))
        return Response(body, content_type=content_type)

    def _profiles(self, request: Request) -> Coroutine[Any, Any, Response]:
        from svcdns.control.profile_pages import ProfilePages  # here, because a plain server does not need it

        return ProfilePages(self._workers).page(request)

    # -- requests to /health

    async def check(self, setup: Callable[[], Setup]) -> None:
        """Requests this server's page /health once a second, and measures the duration. Runs until cancelled.

        `setup` returns the configuration in use, which has the address of /health.
        """
        while True:
            await asyncio.sleep(1.0)
            for page in setup().pages:
                if page.path == HEALTH:
                    await self._check_once(page.address)

    async def _check_once(self, address: Address) -> None:
        host, port = address[0], self._http.port(address)
        shown = f"[{host}]" if ":" in host else host or "127.0.0.1"
        uri = f"http://{shown if host else 'localhost'}:{port}{HEALTH}"
        began = time.monotonic()
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await _request(host or "127.0.0.1", port, f"{shown}:{port}")
        except OSError as error:
            self._counters.count(HEALTH_FAILURES)
            reason = str(error) or "timed out"
            plugin_logger("health").warning('Local health request to "%s" failed: %s', uri, reason)
            return
        took = time.monotonic() - began
        self._counters.observe(HEALTH_DURATION, self._counters.cell(HEALTH_DURATION), took)
        if took > SLOW:
            plugin_logger("health").warning('Local health request to "%s" took more than 1s: %.3fs', uri, took)


async def _request(host: str, port: int, shown: str) -> None:
    """Requests the page /health of a server. Raises OSError if there is no response."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {HEALTH} HTTP/1.1\r\nHost: {shown}\r\nConnection: close\r\n\r\n".encode())
        if not (await reader.read(65536)).startswith(b"HTTP/1."):
            raise ConnectionError("not a response")
    finally:
        writer.close()
