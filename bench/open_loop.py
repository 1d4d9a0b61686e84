"""An open-loop asker: questions leave at their times whether or not answers come, so that a server that stalls is seen to stall.

Latency is from just before a question is sent until the kernel has its answer (SO_TIMESTAMPNS), so that how fast this program reads is
not in it. A question without an answer has latency infinity.
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
"""Seconds after the last question in which its answer may come."""


@dataclass(frozen=True)
class Sample:
    """Questions in the order in which they left: when (seconds of the realtime clock), and their latencies (seconds).

    `codes` are the response codes of all answers that came, in their order.
    """

    sent: Sequence[float]
    latency: Sequence[float]
    codes: Sequence[int] = ()

    @property
    def lost(self) -> int:
        """Questions without an answer."""
        return sum(map(math.isinf, self.latency))

    def within(self, spans: Sequence[tuple[float, float]]) -> Sample:
        """The questions that left within spans of time that do not overlap."""
        kept = [range(bisect_left(self.sent, begin), bisect_right(self.sent, end)) for begin, end in spans]
        return Sample([self.sent[k] for span in kept for k in span], [self.latency[k] for span in kept for k in span])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above; NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ask(port: int, questions: Sequence[bytes], rate: float, seconds: float, clients: int = 128) -> Sample:
    """Asks in turn from `clients` sockets, at even times. A question's id is its number, modulo 65,536."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    total = int(rate * seconds)
    sent = [0] * total
    arrived = [0] * total
    with selectors.EpollSelector() as selector:
        sockets = [_socket(port) for _ in range(clients)]
        try:
            for one in sockets:
                selector.register(one, selectors.EVENT_READ)
            codes: list[int] = []
            _send_all(sockets, selector, questions, rate, sent, arrived, codes)
            deadline = time.monotonic() + GRACE
            while 0 in arrived and time.monotonic() < deadline:
                _receive(selector, sent, arrived, codes, total, 0.05)
        finally:
            for one in sockets:
                one.close()
    latency = [(came - left) / 1e9 if came else math.inf for left, came in zip(sent, arrived, strict=True)]
    return Sample([left / 1e9 for left in sent], latency, codes)


def _send_all(
    sockets: Sequence[socket.socket],
    selector: selectors.BaseSelector,
    questions: Sequence[bytes],
    rate: float,
    sent: list[int],
    arrived: list[int],
    codes: list[int],
) -> None:
    begin = time.monotonic()
    for number in range(len(sent)):
        question = struct.pack(">H", number & 0xFFFF) + questions[number % len(questions)][2:]
        pause = begin + number / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        sent[number] = time.time_ns()
        sockets[number % len(sockets)].send(question)
        _receive(selector, sent, arrived, codes, number + 1, 0)


def _receive(selector: selectors.BaseSelector, sent: list[int], arrived: list[int], codes: list[int], asked: int, patience: float) -> None:
    """Takes what has come; the newest question of an id is the one that is answered."""
    for key, _ in selector.select(patience):
        data, extra, _, _ = key.fileobj.recvmsg(4096, 64)  # type: ignore[union-attr]
        number = asked - 1 - ((asked - 1 - struct.unpack_from(">H", data)[0]) & 0xFFFF)
        if number >= 0 and not arrived[number]:
            codes.append(data[3] & 15)
            seconds, nanoseconds = struct.unpack("qq", extra[0][2])
            arrived[number] = max(seconds * 1_000_000_000 + nanoseconds, sent[number] + 1)


def _socket(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.connect(("127.0.0.1", port))
    return made
