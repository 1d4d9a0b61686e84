"""The pages of the Unix socket for tools (docs/plugins/admin.md). A page is a JSON document, except `state`.

Only POST changes anything. Errors have a JSON document with the key `error`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from svcdns.control.cache_pages import CachePages, RequestError
from svcdns.control.http_message import Request, Response
from svcdns.control.server_state import StatePage
from svcdns.control.status import ServerParts, StatusPage
from svcdns.control.workers import CallError

FOLDER: Final = "/v1/"
TOP: Final = 20
"""The number of items in each list of the document `traffic`, unless the request has another number."""
MAX_TOP: Final = 2000
_JSON: Final = "application/json"


class AdminPages:
    """Makes the pages of one control process."""

    def __init__(self, parts: ServerParts) -> None:
        self._status, cache = StatusPage(parts), CachePages(parts.workers)
        self._traffic = parts.traffic
        self._pages: Mapping[tuple[str, str], Callable[[Mapping[str, str]], Awaitable[Any]]] = {
            ("GET", "status"): self._make_status,
            ("GET", "traffic"): self._make_traffic,
            ("GET", "state"): StatePage(parts).state,
            ("GET", "cache"): cache.listed,
            ("POST", "cache/flush"): cache.flush,
        }

    async def page(self, request: Request) -> Response:
        """Returns the page of a path below FOLDER."""
        method = "GET" if request.method == "HEAD" else request.method
        name = request.path.removeprefix(FOLDER).strip("/")
        make = self._pages.get((method, name))
        if make is None:
            allowed = [one for one, page in self._pages if page == name]
            if allowed:
                return Response(_error(f"{name} needs {' or '.join(allowed)}"), 405, _JSON, ", ".join(allowed))
            return Response(_error(f"there is no page '{name}'; the server may be older than the tool"), 404, _JSON)
        try:
            made = await make(request.query)
            if isinstance(made, bytes):
                return Response(made, content_type="application/msgpack")
            return Response(msgspec.json.encode(made) + b"\n", content_type=_JSON)
        except RequestError as error:
            return Response(_error(str(error)), 400, _JSON)
        except CallError as error:
            return Response(_error(str(error)), 503, _JSON)

    async def _make_status(self, _query: Mapping[str, str]) -> Any:
        return await self._status.status()

    async def _make_traffic(self, query: Mapping[str, str]) -> Any:
        text = query.get("top", str(TOP))
        if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MAX_TOP:
            raise RequestError(f"top={text!r}: a number from 1 to {MAX_TOP} was expected")
        report = await self._traffic.report(int(text))
        if report is None:
            raise RequestError("no server block has the plugin traffic")
        return report


def _error(text: str) -> bytes:
    return msgspec.json.encode({"error": text}) + b"\n"
