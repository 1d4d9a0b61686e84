"""HTTP listeners for the pages of control, each page on the addresses that the Corefile gives it.

It does not know what the pages show. Rules:

1. An address may have several pages, and blocks with the same address share a listener.
2. A change binds new addresses before it closes old ones, and leaves the others alone.
3. Ports are shared (SO_REUSEPORT, as in CoreDNS): in a rolling replacement the new control process serves before the
   old one has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from svcdns.errors import SvcdnsError

Address = tuple[str, int]
Page = Callable[[web.Request], Awaitable[web.Response]]
SHUTDOWN: float = 1.0


class HttpListenError(SvcdnsError):
    """An address of a page cannot be bound."""


class _Site:
    """One address with its pages by path."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.pages: dict[str, Page] = {}
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN)

    async def open(self) -> None:
        host, port = self.address
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host or None, port, reuse_address=True, reuse_port=True).start()
        except OSError as error:
            await self._runner.cleanup()
            raise HttpListenError(
                f"listen tcp {host}:{port}: bind: {(error.strerror or str(error)).lower()}"
            ) from error

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        page = self.pages.get(request.path)
        return web.Response(status=404, text="404 page not found\n") if page is None else await page(request)


class HttpPages:
    """All HTTP listeners of control."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        """`pages` by path."""
        self._pages = pages
        self._sites: dict[Address, _Site] = {}

    async def serve(self, wanted: Mapping[Address, frozenset[str]]) -> None:
        """Serves these paths at these addresses, and nothing else. Raises HttpListenError, and then nothing has
        changed."""
        opened: list[_Site] = []
        try:
            for address in wanted:
                if address not in self._sites:
                    site = _Site(address)
                    await site.open()
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

    async def without(self, path: str) -> None:
        """Stops serving a page; an address without another page is closed."""
        await self.serve(
            {address: left for address, site in self._sites.items() if (left := frozenset(site.pages) - {path})}
        )
