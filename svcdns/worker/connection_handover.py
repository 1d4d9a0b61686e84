"""Hands open TCP connections from a worker that stops to the worker that replaces it, its successor.

A message on a Unix socket has the descriptor of a connection (SCM_RIGHTS, unix(7)), its listener, the received octets
of its next query, and the time until it expires. Rules:

1. A connection is handed over only while none of its queries or replies is in progress.
2. The worker that stops closes its descriptor without a shutdown, so the client notices nothing.
3. If the successor has ended, connections are closed after their replies.
4. Workers of other versions read these messages: their keys never change.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from svcdns.eventloop.time_slice import TimeSlice
from svcdns.log_line import LogLine
from svcdns.process.channel import Channel, ChannelBrokenError, ChannelClosedError, Message, encoded
from svcdns.serving.transport.connections import Detached, TcpConnections

TOGETHER: Final = 8
"""The most connections that are taken over at once.

Each needs some iterations of the event loop, and some tens of microseconds of its own.
"""
PAUSE: Final = 0.01
"""The seconds between two checks of connections that have a query or a reply in progress."""
_KEYS: Final = {"host": "host", "port": "port", "family": "family", "timeout": "patience", "queries": "left"}
"""The key in the message for each field of `Detached`; `fd` and `buffer` are encoded separately."""

log = logging.getLogger("svcdns")


async def give(
    connections: TcpConnections, sock: socket.socket, going_on: Callable[[], bool], file: int | None = None
) -> None:
    """Sends the file `file`, and then the open connections, to the successor, while `going_on()` is true.

    Closes `sock` and `file` at the end.
    """
    sock.setblocking(False)
    with sock:
        try:
            if file is not None:
                await _send(sock, {"op": "kept"}, file)
            while going_on():
                await _give_ready(connections, sock)
                await asyncio.sleep(PAUSE)
        except ChannelClosedError:
            connections.drain()
            while going_on():
                await asyncio.sleep(PAUSE)
        finally:
            if file is not None:
                os.close(file)


async def give_file(sock: socket.socket, file: int) -> None:
    """Sends the file `file` to the successor, and nothing else. Closes `sock` and `file`."""
    sock.setblocking(False)
    with sock:
        try:
            await _send(sock, {"op": "kept"}, file)
        except ChannelClosedError:
            log.debug("the successor has ended before it got the file")
        finally:
            os.close(file)


async def _give_ready(connections: TcpConnections, sock: socket.socket) -> None:
    slice_ = TimeSlice()
    for connection in tuple(connections.open):
        detached = connection.detach()
        if detached is None:
            continue
        try:
            await _send(sock, _encode(detached), detached.fd)
        except ChannelClosedError:
            connection.resume()
            raise
        connection.close_detached()
        await slice_.pause()


async def _send(sock: socket.socket, message: Message, fd: int) -> None:
    """Sends one message. Raises ChannelClosedError if the successor has ended."""
    loop = asyncio.get_running_loop()
    line, ancillary = encoded(message, [fd])
    sent = 0
    while not sent:
        try:
            sent = sock.sendmsg([line], ancillary)
        except BlockingIOError:
            await _ready(sock, loop.add_writer, loop.remove_writer)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:  # unix(7): too many descriptors of this user are in transit
                raise ChannelClosedError from error
            await asyncio.sleep(PAUSE)
    try:
        await loop.sock_sendall(sock, line[sent:])
    except OSError as error:
        raise ChannelClosedError from error


async def take(
    sock: socket.socket,
    adopt: Callable[[Detached], Awaitable[None]],
    import_state: Callable[[int], Coroutine[Any, Any, None]],
) -> None:
    """Takes over state files and connections from the worker at the other end of `sock`, until that worker closes it.

    Each connection is passed to `adopt`. `import_state` gets the descriptor of a state file, and must close it.
    """
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    channel, ended = Channel(sock), False
    importing: list[asyncio.Task[None]] = []
    with contextlib.closing(channel):
        while not ended:
            await _ready(sock, loop.add_reader, loop.remove_reader)
            received: list[Detached | int] = []
            try:
                while len(received) < TOGETHER and (more := channel.receive()):
                    received += _decoded(more)
            except ChannelBrokenError as error:  # the other worker closes the connections that it has not sent
                log.warning(LogLine("no more connections of the worker before this one are taken over", error=error))
                ended = True
            except ChannelClosedError:
                ended = True
            importing += [asyncio.create_task(import_state(file)) for file in received if isinstance(file, int)]
            await asyncio.gather(*(adopt(one) for one in received if isinstance(one, Detached)))
    await asyncio.gather(*importing)


async def _ready(sock: socket.socket, add: Callable[..., None], remove: Callable[..., object]) -> None:
    """Waits until the socket is readable or writable.

    To wait for reading, pass the event loop's `add_reader` and `remove_reader`. To wait for writing, pass `add_writer`
    and `remove_writer`.
    """
    waiting = asyncio.get_running_loop().create_future()

    def ready() -> None:
        if not waiting.done():
            waiting.set_result(None)

    add(sock, ready)
    try:
        await waiting
    finally:
        remove(sock)


def _encode(detached: Detached) -> Message:
    about = {key: getattr(detached, field) for field, key in _KEYS.items()}
    return {"op": "connection", **about, "buffer": detached.buffer.hex()}


def _decoded(messages: list[Message]) -> list[Detached | int]:
    """Returns the connections and the descriptors of state files in the messages.

    If a message has a wrong form, raises ChannelBrokenError and closes all descriptors.
    """
    try:
        return [_decode(message) for message in messages]
    except (LookupError, TypeError, ValueError) as error:  # msgspec.ValidationError is a ValueError
        for message in messages:
            for fd in message["fds"]:
                os.close(fd)
        raise ChannelBrokenError(f"not a message of a hand-over: {error}") from error


def _decode(message: Message) -> Detached | int:
    [fd] = message["fds"]
    if message["op"] == "kept":
        return int(fd)
    about = {field: message[key] for field, key in _KEYS.items()}
    return msgspec.convert(tuple(Detached(fd, buffer=bytes.fromhex(message["buffer"]), **about)), Detached)
