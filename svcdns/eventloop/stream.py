"""A connected TCP socket whose protocol reads the socket itself: `SocketTransport`.

The protocol can read the socket as soon as it is accepted, which is faster than asyncio's own transport. Writing,
pausing and closing work as with asyncio's transports.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Final, Protocol

from svcdns.eventloop.loop import add_drain, after_drains, remove_drain

WRITE_BUFFER: Final = 64 << 10
"""The octets that wait until the kernel takes them, from which on the protocol is asked to pause."""
LOW: Final = 4
"""The protocol may write again when the part 1/LOW of that many octets waits."""


class StreamProtocol(Protocol):
    """The interface of a protocol that uses a `SocketTransport`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called first. The protocol must call `transport.resume_reading` before it can read."""
        ...

    def readable(self) -> object:
        """Called while the socket is readable, or when it has ended. The protocol reads the socket's descriptor."""
        ...

    def pause_writing(self) -> None:
        """Called when many octets wait, because the peer does not read."""
        ...

    def resume_writing(self) -> None:
        """Called when the peer reads again."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """Called last."""
        ...


class SocketTransport(asyncio.Transport):
    """Writes to a connected socket, calls its protocol when the socket is readable, and closes the socket."""

    __slots__ = (
        "__weakref__",
        "_closing",
        "_high",
        "_loop",
        "_lost",
        "_paused",
        "_peer",
        "_protocol",
        "_reading",
        "_sock",
        "_unsent",
        "fd",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: StreamProtocol, peer: Any = None
    ) -> None:
        """Takes over the socket, which must not block, and calls the protocol's `connection_made`.

        `peer` is the peer's address, if it is known.
        """
        super().__init__()
        self._loop, self._sock, self.fd, self._peer = loop, sock, sock.fileno(), peer
        self._protocol: StreamProtocol | None = protocol
        self._unsent = bytearray()
        self._high = WRITE_BUFFER
        self._reading = self._paused = self._closing = self._lost = False
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns the socket for `socket`, its addresses for `peername` and `sockname`, and otherwise `default`.

        An address is None if the connection has ended.
        """
        if name == "socket":
            return self._sock
        try:
            if name == "peername":
                return self._peer or self._sock.getpeername()
            return self._sock.getsockname() if name == "sockname" else default
        except OSError:
            return None

    # -- reading

    def resume_reading(self) -> None:
        """Calls the protocol's `readable` whenever the socket is readable, from this call on."""
        if not (self._reading or self._closing) and self._protocol is not None:
            self._reading = True
            add_drain(self._loop, self._sock, self._protocol.readable)

    def pause_reading(self) -> None:
        """Stops calling `readable`."""
        if self._reading:
            self._reading = False
            remove_drain(self._loop, self._sock)

    # -- writing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002
        """Sets the number of waiting octets above which the protocol's `pause_writing` is called."""
        self._high = WRITE_BUFFER if high is None else high

    def get_write_buffer_size(self) -> int:
        """Returns the number of octets that the kernel has not accepted yet."""
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends octets. Octets that the kernel does not accept wait."""
        if self._lost or self._closing:
            return
        if not self._unsent:
            try:
                sent = os.write(self.fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.abort()
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self.fd, self._writable)
        self._unsent += data
        if len(self._unsent) > self._high and not self._paused and self._protocol is not None:
            self._paused = True
            self._protocol.pause_writing()

    def _writable(self) -> None:
        try:
            sent = os.write(self.fd, self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self.fd)
        if self._paused and len(self._unsent) <= self._high // LOW and self._protocol is not None:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing and not self._unsent:
            self._end()

    # -- the end

    def is_closing(self) -> bool:
        """Returns True if the connection is closed, or will be closed when all octets are sent."""
        return self._closing

    def close(self) -> None:
        """Stops reading, and closes the connection when all octets are sent."""
        if self._closing:
            return
        self._closing = True
        self.pause_reading()
        if not self._unsent:
            self._end()

    def abort(self) -> None:
        """Closes the connection. Octets that wait are not sent."""
        if self._lost:
            return
        self._closing = True
        self.pause_reading()
        if self._unsent:
            self._unsent.clear()
            self._loop.remove_writer(self.fd)
        self._end()

    def _end(self) -> None:
        if not self._lost:
            self._lost = True
            after_drains(self._loop, self._call_connection_lost)

    def _call_connection_lost(self) -> None:
        protocol, self._protocol = self._protocol, None
        try:
            if protocol is not None:
                protocol.connection_lost(None)
        finally:
            self._sock.close()
