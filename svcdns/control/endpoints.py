"""The HTTP pages /health, /ready and /metrics, and the requests that the control process itself sends to /health.

The HTTP listeners are in `http`, the content of /metrics in `metrics`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp import web

from svcdns.control import metrics
from svcdns.control.configuration import Setup
from svcdns.control.http import HttpPages
from svcdns.control.info_metrics import HEALTH_DURATION, HEALTH_FAILURES
from svcdns.control.page_sockets import Address, PageSockets
from svcdns.control.workers import Workers
from svcdns.process.shared_memory import State
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import plugin_logger

HEALTH: Final = "/health"
READY: Final = "/ready"
METRICS: Final = "/metrics"
SLOW: Final = 1.0
"""Requests to /health that take more seconds than this are logged."""

log = logging.getLogger("svcdns")


class Pages:
    """Serves /health, /ready and /metrics on the addresses that the Corefile in use configures."""

    def __init__(
        self, workers: Workers, counters: Counters, regions: list[memoryview], own: int, watching: Callable[[], bool],
        unready: Callable[[], bool],
    ) -> None:  # fmt: skip
        """`regions` are all regions of the shared memory; `own` is the number of this process's region.

        `watching` returns whether the Corefile watches a cluster. `unready` returns whether a snapshot with the option
        `not_ready` is in use.
        """
        self._workers, self._counters, self._watching, self._unready = workers, counters, watching, unready
        self._registry = metrics.registry(regions, own)
        self._free: set[Address] = set()
        """Addresses for which the Corefile has no port. The free port that each of them got has been logged."""
        self._http = HttpPages({HEALTH: self._health, READY: self._ready, METRICS: self._metrics})

    async def serve(self, setup: Setup, sockets: PageSockets | None = None) -> None:
        """Serves the HTTP pages that the Corefile of `setup` turns on, and no other pages.

        `sockets` has sockets that already listen, for some of the addresses. Raises HttpListenError if an address
        cannot be bound; then nothing has changed.
        """
        out: dict[Address, set[str]] = {}
        for page in setup.pages:
            out.setdefault(page.address, set()).add(page.path)
        await self._http.serve({address: frozenset(paths) for address, paths in out.items()}, sockets)
        for address, paths in out.items():
            if not address[1] and address not in self._free:
                self._free.add(address)
                log.info(
                    "%s: listening on port %d, as the Corefile has none", *sorted(paths)[:1], self._http.port(address)
                )

    async def unready(self) -> None:
        """Stops serving /ready, so that the Pod gets no new clients during a stop."""
        await self._http.without(READY)

    async def close(self) -> None:
        """Stops serving all pages."""
        await self._http.serve({})

    async def _health(self, _request: web.Request) -> web.Response:
        return (
            web.Response(text="OK") if self._workers.healthy() else web.Response(status=503, text="no worker answers")
        )

    async def _ready(self, _request: web.Request) -> web.Response:
        states = self._workers.states()
        unready = self._unready()
        if all(one == State.SERVING for one in states) and not unready:
            return web.Response(text="OK")
        unsynced = unready or any(one in (State.UNSYNCED, State.SERVING_UNSYNCED, State.STARTING) for one in states)
        names = "kubernetes" if unsynced and self._watching() else "worker"
        plugin_logger("ready").info('Plugins not ready: "%s"', names)
        return web.Response(status=503, text=names)

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = metrics.page(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    # -- requests to /health

    async def check(self, setup: Callable[[], Setup]) -> None:
        """Requests this server's /health once a second, as a kubelet does, and measures the duration. Runs until
        cancelled.

        `setup` returns the configuration that is in use, with the address of /health.
        """
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3), trust_env=False) as session:
            while True:
                await asyncio.sleep(1.0)
                for page in setup().pages:
                    if page.path == HEALTH:
                        await self._check_once(session, page.address)

    async def _check_once(self, session: aiohttp.ClientSession, address: Address) -> None:
        host, port = address[0], self._http.port(address)
        shown = f"[{host}]" if ":" in host else host or "127.0.0.1"
        began = time.monotonic()
        try:
            async with session.get(f"http://{shown}:{port}/health") as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._counters.count(HEALTH_FAILURES)
            plugin_logger("health").warning("Local health request failed: %s", error)
            return
        took = time.monotonic() - began
        self._counters.observe(HEALTH_DURATION, self._counters.cell(HEALTH_DURATION), took)
        if took > SLOW:
            plugin_logger("health").warning("Local health request took more than 1s: %.3fs", took)
