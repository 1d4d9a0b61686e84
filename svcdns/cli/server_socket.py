"""Requests to a running server over the Unix socket of the plugin *admin*."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import urlencode

import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.errors import UNDECODABLE
from svcdns.plugins.admin import PAGES, READY

TIMEOUT: Final = 30.0
"""Seconds that the server may take for a reply."""
_HINT: Final = "is the plugin 'admin' in the Corefile of the server?"

T = TypeVar("T")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connects to the Unix socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


class _Failure(msgspec.Struct):
    error: str = ""


def ask(path: str, page: str, query: Mapping[str, str], returns: type[T], method: str = "GET") -> T:
    """Requests a page, such as `status`, and returns its JSON document. Raises CannotRun."""
    try:
        return msgspec.json.decode(octets(path, page, query, method), type=returns)
    except UNDECODABLE as failure:
        raise CannotRun(f"{path}: the reply cannot be read: {failure}") from failure


def octets(path: str, page: str, query: Mapping[str, str], method: str = "GET") -> bytes:
    """Requests a page, and returns its octets. Raises CannotRun."""
    status, body = _response(path, f"{PAGES}{page}?{urlencode(query)}", method)
    if status != 200:
        raise CannotRun(_error(body) or f"{path}: the server refuses the request with status {status}")
    return body


def missing(path: str) -> str:
    """Returns the reason why the server is not ready, or an empty text if it is ready. Raises CannotRun."""
    status, body = _response(path, READY, "GET")
    if status == 200:
        return ""
    return "the server is stopping" if status == 404 else body.decode(errors="replace")


def _response(path: str, target: str, method: str) -> tuple[int, bytes]:
    """Sends a request over the socket, and returns the status and the body of the response. Raises CannotRun."""
    connection = _Connection(path)
    try:
        connection.request(method, target, headers={"Content-Length": "0"})
        response = connection.getresponse()
        return response.status, response.read()
    except FileNotFoundError as failure:
        raise CannotRun(f"{path}: there is no such socket; {_HINT}") from failure
    except ConnectionRefusedError as failure:
        raise CannotRun(f"{path}: no server listens; {_HINT}") from failure
    except PermissionError as failure:
        raise CannotRun(f"{path}: only the user of the server may use this socket") from failure
    except (OSError, http.client.HTTPException) as failure:
        raise CannotRun(f"{path}: {failure}") from failure
    finally:
        connection.close()


def _error(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Failure).error
    except UNDECODABLE:
        return ""
