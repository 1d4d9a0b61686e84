"""The pages of the plugin *status*: an HTML page about the running server, and the parts that its script loads.

Rules:

1. The pages change nothing.
2. On another address than loopback, the page is public: it has no query names, no clients and no form.
3. On loopback, the Host header must name loopback too. Otherwise a web page elsewhere could read the page through the
   operator's browser (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from svcdns.control import status_html, traffic_html
from svcdns.control.http_message import Request, Response
from svcdns.control.status import StatusPage
from svcdns.control.traffic import TrafficReport
from svcdns.control.workers import CallError
from svcdns.errors import SvcdnsError

FOLDER: Final = "/status/"
HTML: Final = "text/html; charset=utf-8"
_HEADERS: Final = (
    ("Content-Security-Policy", status_html.POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)

Explain = Callable[[Mapping[str, str]], Awaitable[str]]
"""Returns the explanation of a name as text. The argument has the fields `name`, `type` and `client` of the form.

Raises SvcdnsError for fields that cannot be used.
"""

Report = Callable[[int], Awaitable[TrafficReport | None]]
"""Returns the estimates of the plugin *traffic*, or None without the plugin. The argument is the largest number of
items in each list.
"""


class StatusPages:
    """Makes the pages of one control process."""

    def __init__(self, status: StatusPage, explain: Explain, report: Report) -> None:
        self._status, self._explain, self._report = status, explain, report

    async def page(self, request: Request) -> Response:
        """Returns the page of a path below FOLDER."""
        public = not is_loopback(request.listener)
        if not public and not is_loopback(_host_of(request.headers.get("host", ""))):
            return _text("The Host header must name this machine, as in localhost.", 403)
        if request.path == FOLDER.rstrip("/"):
            return Response(b"", 308, headers=(("Location", FOLDER),))
        match request.path.removeprefix(FOLDER):
            case "":
                return await self._document(request.query, public=public)
            case "live":
                traffic = None if public else await self._report(traffic_html.TOP)
                return _html(status_html.live(await self._status.status(), traffic, public=public))
            case "explanation" if not public:
                text, status = await self._explained(request.query)
                return _text(text, status)
        return _text("There is no such page.", 404)

    async def _document(self, query: Mapping[str, str], *, public: bool) -> Response:
        explanation = ""
        if query.get("name") and not public:
            explanation, _ = await self._explained(query)
        traffic = None if public else await self._report(traffic_html.TOP)
        status = await self._status.status()
        page = status_html.document(status, public=public, traffic=traffic, explanation=explanation, asked=query)
        return _html(page)

    async def _explained(self, query: Mapping[str, str]) -> tuple[str, int]:
        try:
            return await self._explain(query), 200
        except CallError as error:
            return str(error), 503
        except SvcdnsError as error:
            return str(error), 400


def is_loopback(host: str) -> bool:
    """Returns True if a host name or an address means this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(header: str) -> str:
    """Returns the host in a Host header, without port and brackets."""
    host, _, port = header.rpartition(":")
    return (host if host and port.isdigit() else header).strip("[]")


def _html(text: str) -> Response:
    return Response(text.encode(), content_type=HTML, headers=_HEADERS)


def _text(text: str, status: int) -> Response:
    return Response(f"{text}\n".encode(), status, headers=_HEADERS)
