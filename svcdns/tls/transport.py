"""An asyncio layer that adds TLS to a socket's transport, for clients and servers (RFC 8446, RFC 5246).

Rules:

1. Each step of a handshake waits in a queue (`HandshakeQueue`), because a step may take some milliseconds.
2. The memory of a connection is bounded: one incomplete encrypted record, and the decrypted data of one record that the
   protocol has not accepted yet.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

from svcdns.eventloop.fair_queue import FairQueue
from svcdns.eventloop.loop import release
from svcdns.eventloop.stream import SocketTransport

_HANDSHAKE_RECORD: Final = 22
_RECORD_HEADER: Final = 5
MAX_HELLO: Final = 16 << 10
"""The longest first record of a handshake, in octets, which is the longest record that TLS permits.

OpenSSL gets the octets of a longer one as they come, and refuses them.
"""
CHUNK: Final = 16384
"""Octets that are read from the socket, or passed to the protocol, in one step."""
_INBOX: Final = bytearray(CHUNK)
"""The receive buffer of all connections. Sharing is safe, because its contents are used up before the next read."""
_INBOXES: Final = [_INBOX]
_IN_INBOX: Final = memoryview(_INBOX)

MAX_DEBT: Final = 0.01
"""The most seconds by which the pauses between two steps of handshakes may be too short together."""
MAX_STEPS: Final = 1 << 14
"""The most steps that wait in a queue. It is more than a process has handshakes."""

Side = Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject]
"""A function that makes one side of a TLS connection. Its arguments are the buffers of incoming and outgoing octets."""


class HandshakeQueue:
    """Runs the steps of handshakes one at a time. The clients take turns.

    After each step, it pauses for the same time, so that other work gets half of the time. A step of a client that has
    no other step in the queue ends the pause. The rest of the pause, at most MAX_DEBT, is added to later pauses.
    """

    def __init__(self) -> None:
        self._waiting: FairQueue[Callable[[], None]] = FairQueue(MAX_STEPS)
        self._scheduled = False
        self._pause: asyncio.TimerHandle | None = None
        self._debt = 0.0
        """The seconds by which pauses were too short."""

    def put(self, step: Callable[[], None], client: bytes = b"") -> None:
        """Adds a step of a client's handshake to the queue."""
        is_new = client not in self._waiting
        self._waiting.add(client, step)
        loop = asyncio.get_running_loop()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._next)
        elif self._pause is not None and is_new and self._debt < MAX_DEBT:
            self._debt += max(0.0, self._pause.when() - loop.time())
            self._pause.cancel()
            self._pause = None
            loop.call_soon(self._next)

    def _next(self) -> None:
        self._pause = None
        began = perf_counter()
        try:
            self._waiting.pop()()
        finally:
            seconds = perf_counter() - began
            self._waiting.charge(seconds)
            self._scheduled = bool(self._waiting.turns)
            if self._scheduled:
                self._pause = asyncio.get_running_loop().call_later(seconds + self._debt, self._next)
            self._debt = 0.0


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """One TLS connection: the asyncio protocol of the socket, and the asyncio transport of the application's protocol.

    The application's protocol is made after the handshake.
    """

    def __init__(
        self,
        side: Side,
        established: Callable[[], asyncio.Protocol],
        failed: Callable[[Exception], None],
        handshakes: HandshakeQueue,
        timeout: float,
        client: bytes = b"",
        *,
        server_side: bool = False,
    ) -> None:
        """`established` is called after the handshake, and returns the application's protocol.

        - `failed` is called once if the connection ends before the handshake.
        - The steps of the handshake wait in the queue `handshakes`, in which clients take turns.
        - The handshake takes at most `timeout` seconds.
        - If `server_side` is true, `side` is called when the peer's first record is complete.
        """
        super().__init__()
        self._established, self._failed, self._handshakes, self._timeout = established, failed, handshakes, timeout
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._client, self._side, self._server_side = client, side, server_side
        self._tls: ssl.SSLObject | None = None
        self._hello = bytearray()
        """The octets of the peer's first record, until it is complete."""
        self._inner: asyncio.Protocol | None = None
        self._raw: asyncio.Transport
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._paused = self._closing = self._read_scheduled = False

    # -- methods that the socket's transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._raw, self._loop = transport, asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._timeout, self._timed_out)
        if not self._server_side:
            self._queue_handshake_step()
        if isinstance(transport, SocketTransport):
            transport.resume_reading()
            self.readable()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        """Returns the buffer for the next octets from the socket."""
        return _INBOX

    def buffer_updated(self, nbytes: int) -> None:
        """Called when `nbytes` octets have been received."""
        if self._inner is not None:
            self._incoming.write(_IN_INBOX[:nbytes])
            self._read()
        elif self._tls is not None or not self._server_side:
            self._incoming.write(_IN_INBOX[:nbytes])
            self._queue_handshake_step()
        else:
            self._hello += _IN_INBOX[:nbytes]
            if _may_begin(self._hello):
                self._incoming.write(self._hello)
                self._hello.clear()
                self._queue_handshake_step()

    def readable(self) -> None:
        """Reads the socket once. Called by a `SocketTransport`."""
        raw = self._raw
        if not isinstance(raw, SocketTransport):
            return
        try:
            count = os.readv(raw.fd, _INBOXES)
        except BlockingIOError:
            return
        except OSError:
            raw.abort()
            return
        if count:
            if self._inner is not None:  # as in `buffer_updated`, without a further call
                self._incoming.write(_IN_INBOX[:count])
                self._read()
            else:
                self.buffer_updated(count)
            return
        raw.pause_reading()
        if not self.eof_received():
            raw.close()

    def eof_received(self) -> bool:
        """Called when the peer sends no more. Returns True if the connection stays open for answers."""
        if self._inner is None or self._closing:
            return False
        return bool(self._inner.eof_received())

    def pause_writing(self) -> None:
        """Called when the socket's send buffer is full, because the peer does not read."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Called when the socket's send buffer has room again, because the peer reads."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has ended."""
        self._closing = True
        self._stop_timer()
        if self._inner is not None:
            self._inner.connection_lost(exc)
            self._inner = None
        else:
            self._failed(self._failure or exc or ConnectionResetError("the connection ended during the handshake"))
        del self._established, self._failed, self._side  # these may refer to this object: see `release`
        release(self._raw)

    # -- the handshake

    def _queue_handshake_step(self) -> None:
        self._raw.pause_reading()
        self._handshakes.put(self._continue_handshake, self._client)

    def _continue_handshake(self) -> None:
        if self._raw.is_closing():
            return
        try:
            if self._tls is None:
                self._tls = self._side(self._incoming, self._outgoing)
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            self._raw.resume_reading()
            return
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._failure = error
            self._send()  # the TLS alert that names the error
            self._raw.close()
            return
        self._stop_timer()
        self._send()
        self._inner = self._established()
        self._inner.connection_made(self)
        if not self._paused and not self._raw.is_closing():
            self._raw.resume_reading()
            self._read()

    def _timed_out(self) -> None:
        self._failure = TimeoutError("i/o timeout during the handshake")
        self._raw.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- encrypted and decrypted data

    def _read(self) -> None:
        """Passes decrypted data to the protocol, one chunk in each iteration of the event loop."""
        if self._read_scheduled or self._paused or self._closing or self._inner is None or self._tls is None:
            return
        try:
            data = self._tls.read(CHUNK)
        except ssl.SSLWantReadError:
            self._send()  # a message of TLS itself, such as a key update, may need an answer
            return
        except ssl.SSLZeroReturnError:
            data = b""
        except OSError:
            self._send()
            self._raw.abort()
            return
        if not data:
            if not self._inner.eof_received():
                self.close()
            return
        if self._incoming.pending:  # a part of a record, or further records
            self._read_scheduled = True
            self._loop.call_soon(self._read_again)
        self._inner.data_received(data)

    def read_waiting(self) -> None:
        """Reads the octets that have arrived at the socket, and passes them on, without waiting for the event loop."""
        if not (self._inner is None or self._paused or self._closing or self._raw.is_closing()):
            self.readable()

    def _read_again(self) -> None:
        self._read_scheduled = False
        self._read()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data and not self._raw.is_closing():
            self._raw.write(data)

    # -- methods that the protocol above calls, as of a transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts and sends data."""
        if self._closing or not data or self._tls is None:
            return
        try:
            self._tls.write(data)
        except OSError:
            self._raw.abort()
            return
        self._send()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypts and sends several pieces of data."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Sends `close_notify`, and closes when everything is sent.

        Does not wait for the peer's `close_notify` (RFC 8446 §6.1).
        """
        if self._closing:
            return
        self._closing = True
        if self._tls is not None:
            with suppress(OSError):  # the peer has not sent close_notify yet, or is gone
                self._tls.unwrap()
        self._send()
        self._raw.close()

    def abort(self) -> None:
        """Closes the connection without `close_notify`."""
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        """Returns True if the connection is closed or closing."""
        return self._closing or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Stops reading from the socket."""
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Passes on the data that have been received, and then reads from the socket again."""
        self._paused = False
        self._raw.resume_reading()
        if not self._read_scheduled:
            self._read_scheduled = True
            self._loop.call_soon(self._read_again)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets the number of waiting octets above which the protocol's `pause_writing` is called."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Returns the number of octets that have not been sent yet."""
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns the TLS object for the name `ssl_object`. Other names are passed to the socket's transport."""
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)


def _may_begin(hello: bytearray) -> bool:
    """Returns True if the first record of a handshake is complete, or is wrong."""
    if hello[0] != _HANDSHAKE_RECORD:
        return True
    length = int.from_bytes(hello[3:_RECORD_HEADER], "big")
    return len(hello) >= _RECORD_HEADER and (length > MAX_HELLO or len(hello) >= _RECORD_HEADER + length)
