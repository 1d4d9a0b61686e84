"""A double of Nomad's HTTP API, as far as it serves the services of a cluster."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit


class NomadDouble:
    """Answers from `services`: the addresses with their ports, by namespace and service.

    With `token`, requests without this token get status 403. If `status` is set, each request gets this status.
    """

    def __init__(
        self,
        services: Mapping[tuple[str, str], list[tuple[str, int]]],
        token: str = "",
        path: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """With `path`, the double listens on a Unix socket; with `tls`, over TLS."""
        self.services, self.token, self.status = dict(services), token, 0
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        """The path, the parameters and the header fields of each request."""
        self._closed = False
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                double.answer(self)

            def log_message(self, *_: object) -> None:
                pass

            def address_string(self) -> str:
                return ""

        self._server = _UnixServer(path, Handler) if path else ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = (
            f"unix://{path}" if path else f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the double, and its connections at their next request. A second call has no effect."""
        self._closed = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self._closed:
            request.close_connection = True
            return
        parts = urlsplit(request.path)
        query = {name: words[0] for name, words in parse_qs(parts.query).items()}
        self.requests.append((parts.path, query, dict(request.headers.items())))
        status, body = self._found(unquote(parts.path), query, request.headers.get("X-Nomad-Token", ""))
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _found(self, path: str, query: Mapping[str, str], token: str) -> tuple[int, bytes]:
        if self.status:
            return self.status, b"out of order"
        if token != self.token and self.token:
            return 403, b"Permission denied"
        if path == "/v1/agent/self":
            return 200, b'{"member": {"Name": "double"}}'
        service = path.removeprefix("/v1/service/")
        found = self.services.get((query.get("namespace", "default"), service), [])
        return 200, json.dumps([_registration(service, *one) for one in found]).encode()


def _registration(service: str, address: str, port: int) -> dict[str, Any]:
    return {"ID": f"{service}-{address}", "ServiceName": service, "Address": address, "Port": port, "Tags": []}


class _UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def __init__(self, path: str, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__((path, 0), handler)

    def server_bind(self) -> None:
        path = str(self.server_address[0])
        Path(path).unlink(missing_ok=True)
        self.socket.bind(path)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = self.socket.accept()
        return connection, ("", 0)
