"""A dnstap reader for tests: listens on a unix or TCP socket, and keeps the decoded messages."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any, Self

from svcdns.wire.dnstap import DnstapMessage, from_wire
from svcdns.wire.frame_streams import ReaderHandshake

TIMEOUT = 10.0


class DnstapReader:
    """Takes the messages of all writers. `finished` is the number of writers that have sent STOP."""

    def __init__(self, path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        """Listens on a unix socket at `path`, or on a free TCP port."""
        self.path, self._tls = path, tls
        self.messages: list[DnstapMessage] = []
        self.finished = self.connections = 0
        self.hangs = False
        """True if the reader does not read after the handshake."""
        self._changed = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        """Begins to listen."""
        if self.path is not None:
            self._server = await asyncio.start_unix_server(self._read, self.path)
        else:
            self._server = await asyncio.start_server(self._read, "127.0.0.1", 0, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends all connections."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        handshake, started = ReaderHandshake(), False
        while not handshake.finished:
            try:
                data = b"" if self.hangs and started else await reader.read(65536)
            except OSError:
                break
            if not data:
                if self.hangs:
                    return
                break
            payloads, out = handshake.receive(data)
            self.messages += [found for one in payloads if (found := from_wire(one)) is not None]
            writer.write(out)
            started = True
            self._changed.set()
        self.finished += handshake.finished
        self._changed.set()
        writer.close()

    async def until(self, done: Any) -> None:
        """Waits until `done()` is true."""
        async with asyncio.timeout(TIMEOUT):
            while not done():
                self._changed.clear()
                await self._changed.wait()

    async def messages_of(self, count: int) -> list[DnstapMessage]:
        """Waits for `count` messages, and returns them."""
        await self.until(lambda: len(self.messages) >= count)
        return self.messages
