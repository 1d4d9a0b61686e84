"""An open-loop load generator: it sends queries at fixed times, without waiting for responses.

Latency is the time from just before a query is sent until the kernel receives the response (SO_TIMESTAMPNS). A lost
query has an infinite latency.
"""

from __future__ import annotations

import ctypes
import math
import selectors
import socket
import struct
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_SO_TIMESTAMPNS = 35
_PR_SET_TIMERSLACK = 29
GRACE = 1.0
"""Seconds after the last query in which responses may arrive."""


@dataclass(frozen=True)
class Sample:
    """The queries of one measurement, in the order of sending.

    `sent` has the times of sending, in seconds on the realtime clock. `latency` has the latency of each query in
    seconds. `codes` has the response codes in the order of receipt.
    """

    sent: Sequence[float]
    latency: Sequence[float]
    codes: Sequence[int] = ()

    @property
    def lost(self) -> int:
        """Returns the number of queries without a response."""
        return sum(map(math.isinf, self.latency))

    def within(self, spans: Sequence[tuple[float, float]]) -> Sample:
        """Returns the queries that were sent within these time spans, which must not overlap.

        A span has its begin and its end, in seconds on the realtime clock.
        """
        kept = [range(bisect_left(self.sent, begin), bisect_right(self.sent, end)) for begin, end in spans]
        return Sample([self.sent[k] for span in kept for k in span], [self.latency[k] for span in kept for k in span])


def percentile(values: Sequence[float], share: float) -> float:
    """Returns a percentile by the nearest-rank method, or NaN if there are no values.

    `share` is, for example, 0.99 for the 99th percentile.
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def generate(
    port: int,
    queries: Sequence[bytes],
    rate: float,
    seconds: float,
    clients: int = 128,
    sources: Sequence[str] = ("127.0.0.1",),
) -> Sample:
    """Sends `rate` queries a second to a port of 127.0.0.1, from `clients` sockets in turn, for `seconds`.

    The message id of a query is its number modulo 65,536. The addresses of the sockets are `sources`, in turn.
    """
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    total = int(rate * seconds)
    sent = [0] * total
    arrived = [0] * total
    with selectors.EpollSelector() as selector:
        sockets = [_socket(port, sources[number % len(sources)]) for number in range(clients)]
        try:
            for one in sockets:
                selector.register(one, selectors.EVENT_READ)
            codes: list[int] = []
            _send_all(sockets, selector, queries, rate, sent, arrived, codes)
            deadline = time.monotonic() + GRACE
            while 0 in arrived and time.monotonic() < deadline:
                _receive(selector, sent, arrived, codes, total, 0.05)
        finally:
            for one in sockets:
                one.close()
    latency = [
        (received - departed) / 1e9 if received else math.inf for departed, received in zip(sent, arrived, strict=True)
    ]
    return Sample([departed / 1e9 for departed in sent], latency, codes)


def _send_all(
    sockets: Sequence[socket.socket],
    selector: selectors.BaseSelector,
    queries: Sequence[bytes],
    rate: float,
    sent: list[int],
    arrived: list[int],
    codes: list[int],
) -> None:
    begin = time.monotonic()
    for number in range(len(sent)):
        query = struct.pack(">H", number & 0xFFFF) + queries[number % len(queries)][2:]
        pause = begin + number / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        sent[number] = time.time_ns()
        sockets[number % len(sockets)].send(query)
        _receive(selector, sent, arrived, codes, number + 1, 0)


def _receive(
    selector: selectors.BaseSelector,
    sent: list[int],
    arrived: list[int],
    codes: list[int],
    sent_count: int,
    timeout: float,
) -> None:
    """Records the responses that have arrived. A response belongs to the newest query with its message id."""
    for key, _ in selector.select(timeout):
        data, extra, _, _ = key.fileobj.recvmsg(4096, 64)  # type: ignore[union-attr]
        number = sent_count - 1 - ((sent_count - 1 - struct.unpack_from(">H", data)[0]) & 0xFFFF)
        if number >= 0 and not arrived[number]:
            codes.append(data[3] & 15)
            seconds, nanoseconds = struct.unpack("qq", extra[0][2])
            arrived[number] = max(seconds * 1_000_000_000 + nanoseconds, sent[number] + 1)


def _socket(port: int, source: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.bind((source, 0))
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.connect(("127.0.0.1", port))
    return made
