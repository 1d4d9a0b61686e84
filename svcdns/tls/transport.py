"""TLS between a socket's transport and a protocol, for either side of a connection (RFC 8446, RFC 5246).

asyncio has its own, which takes no session to resume, and does the handshakes of all connections that have something to say in one turn
of the event loop. Here each step of a handshake, which takes up to some milliseconds of computing, waits for its turn (`Turns`). What is
held of a connection is bounded: an encrypted record that is not whole yet, and a record's text that the protocol does not take.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

CHUNK: Final = 4096
"""Octets read at once, and given to the protocol at once."""
_INBOX: Final = bytearray(CHUNK)
"""One for all connections: what is in it is used up at once."""

Side = Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject]
"""Makes one side of a TLS connection between octets that come in and octets that go out."""


class Turns:
    """Gives steps of handshakes their turn: one at a time, and as much time to everything else as it took."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, step: Callable[[], None]) -> None:
        """Does the step when its turn comes."""
        self._waiting.append(step)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        began = perf_counter()
        try:
            self._waiting[0]()
        finally:
            self._waiting.popleft()
            if self._waiting:
                asyncio.get_running_loop().call_later(perf_counter() - began, self._next)


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The protocol of a socket's transport, and the transport of a protocol above it, which is made when the handshake is done."""

    def __init__(
        self, side: Side, established: Callable[[], asyncio.Protocol], failed: Callable[[Exception], None], turns: Turns, patience: float
    ) -> None:
        """`failed` is called, once, if the connection ends before `established` was, which takes at most `patience` seconds."""
        super().__init__()
        self._established, self._failed, self._turns, self._patience = established, failed, turns, patience
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = side(self._incoming, self._outgoing)
        self._inner: asyncio.Protocol | None = None
        self._raw: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._flaw: Exception | None = None
        self._held = self._closing = self._more = False

    # -- below: the socket's transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._late)
        if self._tls.server_side:
            return
        self._take_turn()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        """Where what comes next is to be put."""
        return _INBOX

    def buffer_updated(self, nbytes: int) -> None:
        """Takes octets in."""
        self._incoming.write(memoryview(_INBOX)[:nbytes])
        if self._inner is None:
            self._take_turn()
        else:
            self._read()

    def eof_received(self) -> bool:
        """The other side sends no more; whether what it has asked is still to be answered."""
        if self._inner is None or self._closing:
            return False
        return bool(self._inner.eof_received())

    def pause_writing(self) -> None:
        """The other side does not read."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._closing = True
        self._stop_timer()
        if self._inner is not None:
            self._inner.connection_lost(exc)
        else:
            self._failed(self._flaw or exc or ConnectionResetError("the connection ended during the handshake"))

    # -- the handshake

    def _take_turn(self) -> None:
        self._raw.pause_reading()
        self._turns.take(self._greet)

    def _greet(self) -> None:
        if self._raw.is_closing():
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            self._raw.resume_reading()
            return
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._flaw = error
            self._send()  # the alert that says so
            self._raw.close()
            return
        self._stop_timer()
        self._send()
        self._inner = self._established()
        self._inner.connection_made(self)
        if not self._held and not self._raw.is_closing():
            self._raw.resume_reading()
            self._read()

    def _late(self) -> None:
        self._flaw = TimeoutError("i/o timeout during the handshake")
        self._raw.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- octets

    def _read(self) -> None:
        """Gives the protocol what there is of text, a chunk at a turn."""
        if self._more or self._held or self._closing or self._inner is None:
            return
        try:
            data = self._tls.read(CHUNK)
        except ssl.SSLWantReadError:
            self._send()  # an answer to a message of TLS itself
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
        self._more = True
        asyncio.get_running_loop().call_soon(self._read_on)
        self._inner.data_received(data)

    def _read_on(self) -> None:
        self._more = False
        self._read()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data and not self._raw.is_closing():
            self._raw.write(data)

    # -- above: the transport of a protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends text."""
        if self._closing or not data:
            return
        try:
            self._tls.write(data)
        except OSError:
            self._raw.abort()
            return
        self._send()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Sends several pieces."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Says that this is the end, and closes once everything is sent; the other side's word is not waited for (RFC 8446 §6.1)."""
        if self._closing:
            return
        self._closing = True
        with suppress(OSError):  # the other side has not said so yet, or is gone
            self._tls.unwrap()
        self._send()
        self._raw.close()

    def abort(self) -> None:
        """Closes at once."""
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to."""
        return self._closing or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Takes nothing in for now."""
        self._held = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Goes on reading, with what is there already first."""
        self._held = False
        self._raw.resume_reading()
        if not self._more:
            self._more = True
            asyncio.get_running_loop().call_soon(self._read_on)

    def get_write_buffer_size(self) -> int:
        """Octets that are not sent yet."""
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object`, and what the socket's transport knows."""
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)
