"""A collector of traces on loopback, which keeps the requests that it gets, and may hang or lie."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Request:
    """A request: its method, path, header fields (names in lower case) and body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Collector:
    """The server. `status` is that of its responses; with `raw`, these octets are the response."""

    def __init__(self, status: int = 202, raw: bytes = b"", *, hangs: bool = False) -> None:
        """Binds a free port. With `hangs`, requests get no response before `close`."""
        self.requests: queue.Queue[Request] = queue.Queue()
        released = self._released = threading.Event()
        if not hangs:
            released.set()
        found = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                octets = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                found.put(Request(self.command, self.path, headers, octets))
                released.wait(30)
                if raw:
                    self.wfile.write(raw)
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_PUT = do_POST  # noqa: N815 - a name of the library

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answers requests that hang, and closes the port."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next(self) -> Request:
        """Returns the next request. Waits at most 20 s for it."""
        return self.requests.get(timeout=20)
