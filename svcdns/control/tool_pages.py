"""The pages for tools and for operators: those of the plugin *admin* and those of the plugin *status*."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from svcdns.control import admin_pages
from svcdns.control.admin_pages import AdminPages
from svcdns.control.explanations import Explanations
from svcdns.control.http_message import Request, Response
from svcdns.control.status import ServerParts, StatusPage
from svcdns.control.status_pages import StatusPages
from svcdns.control.unix_sockets import path_of


class ToolPages:
    """Makes the pages of both plugins."""

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts
        self._admin = AdminPages(parts)
        self._status = StatusPages(StatusPage(parts), Explanations(self._socket).explain, parts.traffic.report)

    def page(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Makes a page."""
        pages = self._admin if f"{request.path}/".startswith(admin_pages.FOLDER) else self._status
        return pages.page(request)

    def _socket(self) -> str | None:
        """Returns the path of a Unix socket of *admin*, or None."""
        paths = (path_of(page.address[0]) for page in self._parts.setup().pages if page.path == admin_pages.FOLDER)
        return next((str(path) for path in paths if path is not None), None)
