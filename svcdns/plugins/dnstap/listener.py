"""The part of `dnstap listen` that runs in the control process: readers connect to it, and get all messages.

Only one process can own a listening socket, but every worker has messages. So each worker sends its messages over a
connection to the inlet, an abstract unix socket of the control process. Rules:

1. Workers get the name of the inlet only while a reader is connected. Without a reader, no message is made.
2. A slow reader loses messages, which are counted. A reader that reads nothing for STALL_TIMEOUT is disconnected.
3. The inlet takes connections only from processes of the same user.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Final

from svcdns.plugins.dnstap.data import drops_key, inlet_key
from svcdns.plugins.dnstap.options import Endpoint
from svcdns.process.blocking_io import in_thread
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.errors import TlsError
from svcdns.wire.frame_streams import FrameStreamError, ReaderHandshake, WriterHandshake, data

Publish = Callable[[Mapping[str, bytes]], Awaitable[None]]
"""Sends changed data to the workers."""

READER_OCTETS: Final = 4 << 20
"""The octets that wait for one reader. Further messages are dropped."""
STALL_TIMEOUT: Final = 10.0
"""The seconds after which a reader that takes nothing is disconnected."""
REPORT_INTERVAL: Final = 10.0
"""The seconds between two log lines about dropped messages."""
RETRY: Final = 5.0
"""The seconds after which an address that cannot be bound is tried again."""
FINISH_TIMEOUT: Final = 1.0
"""The seconds in which readers have to send FINISH at the end."""


class Listener:
    """The socket for readers, and the inlet for workers."""

    def __init__(self, endpoint: Endpoint, publish: Publish) -> None:
        """`publish` sends the name of the inlet, and the number of dropped messages, to the workers."""
        self._endpoint, self._publish = endpoint, publish
        self._log = plugin_logger("dnstap")
        self._name = f"svcdns-dnstap-{os.getpid()}-{secrets.token_hex(8)}".encode()
        self._readers: set[_Reader] = set()
        self._changed = asyncio.Event()
        self._dropped = self._reported = 0

    async def run(self) -> None:
        """Serves readers until the task is cancelled. Then ends their streams with STOP."""
        loop = asyncio.get_running_loop()
        inlet = await loop.create_unix_server(lambda: _Worker(self), b"\0" + self._name)  # type: ignore[arg-type]
        server: asyncio.Server | None = None
        try:
            server = await self._bound()
            report = asyncio.ensure_future(self._report())
            try:
                while True:
                    await self._publish({inlet_key(self._endpoint): self._name if self._readers else b""})
                    self._changed.clear()
                    await self._changed.wait()
            finally:
                report.cancel()
        finally:
            inlet.close()
            if server is not None:
                server.close()
            await self._finish()

    async def _bound(self) -> asyncio.Server:
        """Binds the address for readers. Tries again as long as that fails, and logs the first failure."""
        failed = False
        while True:
            try:
                return await self._bind()
            except (OSError, TlsError) as error:
                if not failed:
                    self._log.error("Failed to start dnstap listener: %s: %s", self._endpoint.text, error)
                failed = True
            await asyncio.sleep(RETRY)

    async def _bind(self) -> asyncio.Server:
        loop, endpoint = asyncio.get_running_loop(), self._endpoint

        def make() -> _Reader:
            return _Reader(self)

        if endpoint.scheme == "unix":
            return await loop.create_unix_server(make, endpoint.path)
        context = None
        if endpoint.scheme == "tls":
            import ssl

            from svcdns.tls.contexts import server_context
            from svcdns.tls.material import read

            verify = ssl.CERT_NONE
            if endpoint.files[2]:
                verify = ssl.CERT_REQUIRED if endpoint.verifies else ssl.CERT_OPTIONAL
            context = server_context(await in_thread(read, *endpoint.files), verify)
        return await loop.create_server(make, endpoint.host or None, endpoint.port, ssl=context, reuse_port=True)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if self._dropped > self._reported:
                self._log.warning("Dropped dnstap messages: %d", self._dropped - self._reported)
                self._reported = self._dropped
                await self._publish({drops_key(self._endpoint): str(self._dropped).encode()})

    async def _finish(self) -> None:
        readers = tuple(self._readers)
        for reader in readers:
            reader.end()
        if readers:
            await asyncio.wait([reader.lost for reader in readers], timeout=FINISH_TIMEOUT)
        for reader in readers:
            reader.abort()

    def add(self, reader: _Reader) -> None:
        """Adds a reader that has finished its handshake."""
        self._readers.add(reader)
        self._changed.set()

    def remove(self, reader: _Reader) -> None:
        """Removes a reader."""
        self._readers.discard(reader)
        self._changed.set()

    def send(self, payloads: list[bytes]) -> None:
        """Sends messages to all readers."""
        octets = b"".join([data(payload) for payload in payloads])
        for reader in tuple(self._readers):
            if not reader.send(octets):
                self._dropped += len(payloads)


class _Reader(asyncio.Protocol):
    """A connection to a reader."""

    def __init__(self, listener: Listener) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listener, self._handshake = listener, WriterHandshake()
        self._transport: asyncio.Transport | None = None
        self._full_since: float | None = None
        self._stopping = False

    def send(self, octets: bytes) -> bool:
        """Sends messages. Returns False if they are dropped."""
        assert self._transport is not None
        if self._stopping or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() < READER_OCTETS:
            self._full_since = None
            self._transport.write(octets)
            return True
        now = monotonic()
        if self._full_since is None:
            self._full_since = now
        elif now - self._full_since > STALL_TIMEOUT:
            self._transport.abort()
        return False

    def end(self) -> None:
        """Sends STOP. The reader replies with FINISH."""
        self._stopping = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._handshake.last)

    def abort(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._handshake.first)

    def data_received(self, data: bytes) -> None:
        """Goes on with the handshake."""
        assert self._transport is not None
        had_started = self._handshake.started
        try:
            out = self._handshake.receive(data)
        except FrameStreamError:
            self._transport.abort()
            return
        if out:
            self._transport.write(out)
        if self._handshake.started and not had_started:
            self._listener.add(self)
        if self._handshake.finished:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's protocol
        """Removes the reader."""
        self._listener.remove(self)
        if not self.lost.done():
            self.lost.set_result(None)


class _Worker(asyncio.Protocol):
    """A connection of a worker to the inlet."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self._handshake = listener, ReaderHandshake()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Closes the connection if the other process has another user."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        _, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.getuid():
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Passes the messages on to the readers."""
        assert self._transport is not None
        try:
            payloads, out = self._handshake.receive(data)
        except FrameStreamError:
            self._transport.abort()
            return
        if payloads:
            self._listener.send(payloads)
        if out:
            self._transport.write(out)
        if self._handshake.finished:
            self._transport.close()
