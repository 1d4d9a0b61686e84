"""Sends the messages of one worker to one dnstap reader, over its own connection.

The event loop of the worker writes, because a thread that encodes would hold the interpreter's lock for up to a switch
interval. Rules:

1. A reply never waits for a reader. Messages that do not fit into the queue are dropped and counted.
2. Messages are collected for FLUSH_INTERVAL, or until they have FLUSH_OCTETS, and written together.
3. After a failure, the writer connects again, with a delay that doubles up to LONGEST_DELAY.
4. At the end, the writer sends the messages in the queue and STOP, and waits FINISH_TIMEOUT for FINISH.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from svcdns.plugins.dnstap.metrics import CONNECTED, DROPPED, MESSAGES
from svcdns.telemetry.counters import Counters
from svcdns.tls.errors import TlsError
from svcdns.wire.frame_streams import FrameStreamError, WriterHandshake

FLUSH_INTERVAL: Final = 0.1
"""The most seconds that a message waits for others."""
FLUSH_OCTETS: Final = 1 << 16
"""The octets that are written together. A write of this size takes some microseconds."""
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0
"""The first and the longest delay in seconds before another connection is tried."""
CONNECT_TIMEOUT: Final = 4.0
"""The seconds until a connection must be open, and its handshake finished."""
FINISH_TIMEOUT: Final = 1.0
"""The seconds in which the last messages must be written, and FINISH must arrive."""
REPORT_INTERVAL: Final = 10.0
"""The seconds between two log lines about dropped messages."""

Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
"""Opens a connection with the protocol that the argument makes. Raises OSError or TlsError."""


class Writer:
    """The queue and the connection for one endpoint."""

    def __init__(
        self, endpoint: str, limit: int, connect: Connect, counters: Counters, log: logging.Logger, *, reports: bool
    ) -> None:
        """At most `limit` messages wait. `endpoint` is for log lines and metrics.

        `reports` is True in the worker that logs failed connections.
        """
        self.refuses = False
        """True if a message would be dropped now: test it before a message is encoded, and then call `drop`."""
        self._endpoint, self._limit, self._connect = endpoint, limit, connect
        self._counters, self._log, self._reports = counters, log, reports
        self._messages = counters.cell(MESSAGES, endpoint)
        self._drops = counters.cell(DROPPED, endpoint)
        self._connected = counters.cell(CONNECTED, endpoint)
        self._frames: deque[tuple[bytes, int]] = deque()
        """Encoded data frames, each with the number of messages in it."""
        self._waiting = self._octets = 0
        self._dropped, self._reported_at = 0, monotonic()
        self._reader_drops = 0
        self._scheduled = self._writable = self._connecting = self._stopping = False
        self._silent = False
        """True if nobody reads: then messages are neither queued nor counted."""
        self._connection: _Connection | None = None
        self._wanted = asyncio.Event()
        """Set while messages are wanted."""
        self._wanted.set()
        self._task: asyncio.Task[None] | None = None
        self._ended: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to connect. Does nothing if the writer runs already."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def put(self, frames: bytes, count: int) -> None:
        """Queues data frames with `count` messages. Call it only if `refuses` is False."""
        self._frames.append((frames, count))
        self._waiting += count
        self._octets += len(frames)
        if self._octets >= FLUSH_OCTETS and self._writable:
            self._flush()
        elif not self._scheduled and self._writable:
            self._scheduled = True
            asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self._flush_later)
        if self._waiting >= self._limit:
            self.refuses = True

    def admit(self, admits: bool) -> None:
        """Sets whether messages are queued. If not, they are neither queued nor counted, because the listener has no
        reader.
        """
        self._silent = not admits
        self.refuses = self._silent or self._stopping or self._waiting >= self._limit
        self._wanted.set() if admits else self._wanted.clear()

    def drop(self, count: int) -> None:
        """Counts `count` messages that are not queued."""
        if self._silent:
            return
        self._counters.values[self._drops] += count
        self._dropped += count

    def set_reader_drops(self, count: int) -> None:
        """Counts the messages that the control process has dropped. `count` is their number since its start."""
        more = count - self._reader_drops
        self._counters.values[self._drops] += more if more >= 0 else count
        self._reader_drops = count

    def tick(self) -> None:
        """Logs the number of dropped messages, at most once in REPORT_INTERVAL."""
        now = monotonic()
        if self._dropped and now - self._reported_at >= REPORT_INTERVAL:
            self._log.warning("Dropped dnstap messages: %d", self._dropped)
            self._dropped, self._reported_at = 0, now

    def stop(self) -> None:
        """Ends the connection after the messages in the queue. Called when no server block uses the endpoint."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_task(self._finish())

    async def finish(self) -> None:
        """Does what `stop` does, and waits for the end."""
        self.stop()
        assert self._ended is not None
        await self._ended

    # -- the connection

    async def _run(self) -> None:
        delay, failed = FIRST_DELAY, False
        while not self._stopping:
            await self._wanted.wait()
            connection = _Connection(self)
            self._connecting = True
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._connect(lambda made=connection: made)  # type: ignore[misc]
                    await connection.started
            except (OSError, TlsError, FrameStreamError) as error:
                connection.abort()
                if self._reports and not failed:
                    text = str(error) or ("timeout" if isinstance(error, TimeoutError) else type(error).__name__)
                    self._log.error("No connection to dnstap endpoint: %s: %s", self._endpoint, text)
                failed = True
            except asyncio.CancelledError:
                connection.abort()
                raise
            else:
                delay, failed = FIRST_DELAY, False
                self._counters.set(self._connected, 1.0)
                self._connection, self._connecting = connection, False
                self.resume()
                await connection.lost
                self._counters.set(self._connected, 0.0)
                self._connection, self._writable = None, False
                self.drop(connection.unsent())
            self._connecting = False
            if not self._stopping:
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)

    def resume(self) -> None:
        """Writes what waits. Called when the connection can take more octets."""
        self._writable = True
        self._flush()

    def pause(self) -> None:
        """Stops writing until `resume`."""
        self._writable = False

    def _flush_later(self) -> None:
        self._scheduled = False
        if self._writable:
            self._flush()

    def _flush(self) -> None:
        """Writes up to FLUSH_OCTETS of the queue. Schedules another call if more waits."""
        frames, connection = self._frames, self._connection
        if not frames or connection is None:
            return
        parts: list[bytes] = []
        octets = messages = 0
        while frames and octets < FLUSH_OCTETS:
            one, count = frames.popleft()
            parts.append(one)
            octets += len(one)
            messages += count
        self._waiting -= messages
        self._octets -= octets
        self.refuses = self._silent or self._stopping or self._waiting >= self._limit
        connection.write(b"".join(parts), messages)
        self._counters.values[self._messages] += messages
        if frames and self._writable and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_later)

    async def _finish(self) -> None:
        self._stopping = self.refuses = True
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_TIMEOUT):
                while self._frames and (self._connecting or self._connection is not None):
                    if self._writable:
                        self._flush()
                    await asyncio.sleep(0 if self._writable else 0.005)
                if self._connection is not None:
                    self._connection.end()
                    await self._connection.lost
        self.drop(self._waiting)
        self._frames.clear()
        self._waiting = self._octets = 0
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.abort()
        self._counters.set(self._connected, 0.0)


class _Connection(asyncio.Protocol):
    """One connection of a writer."""

    def __init__(self, writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = loop.create_future()
        """Done when data may be written. Has an exception if the connection ended before."""
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection has ended."""
        self.started.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait for it
        self._writer, self._handshake = writer, WriterHandshake()
        self._transport: asyncio.Transport | None = None
        self._written = 0
        self._unsent: deque[tuple[int, int]] = deque()
        """By write that the kernel has not taken yet: the octets up to its end, and its messages."""

    def write(self, octets: bytes, messages: int) -> None:
        """Writes data frames with this number of messages."""
        assert self._transport is not None
        self._transport.write(octets)
        self._written += len(octets)
        left = self._transport.get_write_buffer_size()
        if left or self._unsent:
            self._unsent.append((self._written, messages))
            self._note(left)

    def _note(self, left: int) -> None:
        """Removes the writes that the kernel has taken. `left` is the number of octets that it has not taken."""
        sent = self._written - left
        while self._unsent and self._unsent[0][0] <= sent:
            self._unsent.popleft()

    def unsent(self) -> int:
        """Returns the number of messages that were not written when the connection ended."""
        return sum(messages for _, messages in self._unsent)

    def end(self) -> None:
        """Sends STOP. The connection ends when the reader sends FINISH."""
        if self._transport is not None:
            self._transport.write(self._handshake.last)

    def abort(self) -> None:
        """Closes the connection without a handshake."""
        for future in (self.started, self.lost):
            if not future.done():
                future.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=FLUSH_OCTETS, low=0)
        transport.write(self._handshake.first)

    def data_received(self, data: bytes) -> None:
        """Goes on with the handshake."""
        assert self._transport is not None
        try:
            out = self._handshake.receive(data)
        except FrameStreamError as error:
            self._fail(error)
            return
        if out:
            self._transport.write(out)
        if self._handshake.started and not self.started.done():
            self.started.set_result(None)
        if self._handshake.finished:
            self._note(0)
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        if not self.started.done():
            self.started.set_exception(error)
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Called when the kernel takes no more octets."""
        self._writer.pause()

    def resume_writing(self) -> None:
        """Called when the kernel has taken all octets."""
        self._note(0)
        self._writer.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has ended."""
        if not self.started.done():
            self.started.set_exception(exc or ConnectionResetError("the reader has closed the connection"))
        if not self.lost.done():
            self.lost.set_result(None)
