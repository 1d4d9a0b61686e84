"""Readers of UDP sockets that keep replies while the kernel takes none (plugin *shed*, docs/plugins/shed.md).

Without *shed*, a reply is lost if the send buffer of the socket is full. Only listeners with *shed* import this module.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from typing import Final

from svcdns.serving.responder import Responder
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.serving.transport.udp_batch import Sender
from svcdns.telemetry.counters import Family, MetricKind

DEPTH: Final = 1024
"""The most replies that wait for one socket, as in CoreDNS."""
RETRY: Final = 0.001
"""The seconds after which the waiting replies are sent again."""
_BUSY: Final = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
"""The errors that mean: the socket takes no reply now, but may take the reply later."""

DROPPED: Final = Family(
    "coredns_shed_dropped_total",
    MetricKind.COUNTER,
    "Counter of queries and responses dropped, per server, by reason.",
    ("server", "reason"),
)


class SheddingReader(UdpReader):
    """A UDP reader with a stack of replies that the kernel did not take.

    The newest reply is sent first. While the stack is full, new queries are dropped, and each new reply replaces the
    oldest one.
    """

    def __init__(self, sock: socket.socket, responder: Responder, errors: SocketErrors, *, wildcard: bool) -> None:
        """The arguments are those of `UdpReader`."""
        super().__init__(sock, responder, errors, wildcard=wildcard)
        self._stack: deque[tuple[bytes, Sender]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.batch.unsent = self._keep

    def _read(self) -> int:
        if len(self._stack) < DEPTH:
            return super()._read()
        count = self.batch.receive()
        self._drop("query", count)
        return count

    def _keep(self, error: OSError, wire: bytes, sender: Sender) -> bool:
        """Keeps a reply that was not sent, and returns True. Returns False if sending it again is of no use."""
        if error.errno not in _BUSY:
            self._drop("response", 1)
            return False
        if len(self._stack) == DEPTH:
            self._stack.popleft()
            self._drop("response", 1)
        self._stack.append((wire, sender))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETRY, self._retry)
        return True

    def _retry(self) -> None:
        """Sends waiting replies until the kernel takes no more."""
        self._timer = None
        while self._stack:
            wire, sender = self._stack.pop()
            try:
                self.sock.sendmsg((wire,), self.batch.ancillary(sender), 0, self.batch.address(sender))
            except OSError as error:
                if not self._keep(error, wire, sender):
                    self.errors.count("send", error)
                elif error.errno in _BUSY:
                    break

    def finish(self) -> None:
        """Answers all waiting packets. Sends the waiting replies, and drops those that the kernel does not take."""
        super().finish()
        if self._timer is not None:
            self._timer.cancel()
        self._retry()
        if self._timer is not None:
            self._timer.cancel()
        self._drop("response", len(self._stack))
        self._stack.clear()

    def _drop(self, reason: str, amount: int) -> None:
        if amount:
            self.errors.counters.count(DROPPED, self.errors.server, reason, amount=amount)
