"""HTTP listeners for the pages of control; each page is served on the addresses that the Corefile sets for it.

The content of the pages is in `endpoints`. Rules:

1. An address may have several pages; server blocks with the same address share a listener.
2. A change binds new addresses before it closes old ones. Addresses that stay keep their listener.
3. A start may pass sockets that already listen (`page_sockets`).
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

from svcdns.control.page_sockets import Address, HttpListenError, PageSockets, listen

Page = Callable[[web.Request], Awaitable[web.Response]]
SHUTDOWN: float = 1.0


class _Site:
    """The HTTP listener of one address. `pages` maps each path to the page that is served at this address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.pages: dict[str, Page] = {}
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN)

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    @property
    def port(self) -> int:
        """The port on which the listener accepts connections. For an address with port 0, the kernel has chosen it."""
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        page = self.pages.get(request.path)
        return web.Response(status=404, text="404 page not found\n") if page is None else await page(request)


class HttpPages:
    """All HTTP listeners of control."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        """`pages` maps each path to the function that makes the page."""
        self._pages = pages
        self._sites: dict[Address, _Site] = {}

    async def serve(self, wanted: Mapping[Address, frozenset[str]], sockets: PageSockets | None = None) -> None:
        """Serves the paths in `wanted` on their addresses, and no other page.

        `sockets` has sockets that already listen. They are removed from it when they are used. Raises HttpListenError
        if an address cannot be bound; then nothing has changed.
        """
        opened: list[_Site] = []
        try:
            for address in wanted:
                if address not in self._sites:
                    site = _Site(address)
                    ready = None if sockets is None else sockets.pop(address, None)
                    await site.open(await listen(address) if ready is None else ready)
                    opened.append(site)
        except HttpListenError:
            for site in opened:
                await site.close()
            raise
        self._sites |= {site.address: site for site in opened}
        for address, site in list(self._sites.items()):
            if address in wanted:
                site.pages = {path: self._pages[path] for path in wanted[address]}
            else:
                del self._sites[address]
                await site.close()

    def port(self, address: Address) -> int:
        """Returns the port of a served address; for port 0, the free port that the kernel has chosen."""
        return address[1] or self._sites[address].port

    async def without(self, path: str) -> None:
        """Stops serving the page `path` on all addresses, and closes listeners that have no other page."""
        await self.serve(
            {address: left for address, site in self._sites.items() if (left := frozenset(site.pages) - {path})}
        )
