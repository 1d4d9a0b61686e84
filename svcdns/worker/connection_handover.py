"""Kept TCP connections go from a worker that leaves to the one that has taken its slot over, between two messages.

A message on a Unix socket carries the descriptor (SCM_RIGHTS, unix(7)), what the client has sent of its next question, the listener it
belongs to, and the time it has left. A connection moves when nothing of it is in flight: no question is being answered, no reply waits to
be written. Octets that arrive meanwhile wait in the kernel. The leaving side closes its descriptor without a shutdown, so the client sees
nothing. Where the other side is gone, connections are drained as at a stop. What plugins keep goes first, as a file (`inheriting`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, Final

from svcdns.process.channel import Channel, ChannelClosedError, Message, encoded
from svcdns.serving.transport.tcp import Parted, TcpConnections

SLICE: Final = 0.0002
"""Seconds of handing over after which everything else of the worker gets its turn."""
TOGETHER: Final = 8
"""Connections taken over at once: each needs some turns of the event loop, and some tens of microseconds of its own."""
PAUSE: Final = 0.01
"""Seconds between two looks at connections that have something in flight."""
_PLAIN: Final = ("host", "port", "family", "patience", "left")


async def give(connections: TcpConnections, sock: socket.socket, going_on: Callable[[], bool], file: int | None = None) -> None:
    """Hands over a file, and every connection that is open, or opens meanwhile, as long as `going_on` says; closes `sock` and `file`."""
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


async def _give_ready(connections: TcpConnections, sock: socket.socket) -> None:
    began = perf_counter()
    for connection in tuple(connections.open):
        parted = connection.part()
        if parted is None:
            continue
        try:
            await _send(sock, _described(parted), parted.fd)
        except ChannelClosedError:
            connection.stay()
            raise
        connection.leave()
        if perf_counter() - began > SLICE:
            await asyncio.sleep(0)
            began = perf_counter()


async def _send(sock: socket.socket, message: Message, fd: int) -> None:
    """One message. Raises ChannelClosedError where nobody is there to take it."""
    loop = asyncio.get_running_loop()
    line, ancillary = encoded(message, [fd])
    sent = 0
    while not sent:
        try:
            sent = sock.sendmsg([line], ancillary)
        except BlockingIOError:
            await _ready(sock, loop.add_writer, loop.remove_writer)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:  # more descriptors are on their way than this user may have
                raise ChannelClosedError from error
            await asyncio.sleep(PAUSE)
    try:
        await loop.sock_sendall(sock, line[sent:])
    except OSError as error:
        raise ChannelClosedError from error


async def take(
    sock: socket.socket, adopt: Callable[[Parted], Awaitable[None]], inherit: Callable[[int], Coroutine[Any, Any, None]]
) -> None:
    """Takes connections and files over until the other side has no more. `inherit` goes on meanwhile, and closes its file."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    channel, ended = Channel(sock), False
    inheriting: list[asyncio.Task[None]] = []
    with sock:
        while not ended:
            await _ready(sock, loop.add_reader, loop.remove_reader)
            messages: list[Message] = []
            try:
                while len(messages) < TOGETHER and (more := channel.receive()):
                    messages += more
            except ChannelClosedError:
                ended = True
            inheriting += [asyncio.create_task(inherit(message["fds"][0])) for message in messages if message["op"] == "kept"]
            await asyncio.gather(*(adopt(_parted(message)) for message in messages if message["op"] == "connection"))
    await asyncio.gather(*inheriting)


async def _ready(sock: socket.socket, add: Callable[..., None], remove: Callable[..., object]) -> None:
    """Waits until the socket can be read or written."""
    waiting = asyncio.get_running_loop().create_future()

    def ready() -> None:
        if not waiting.done():
            waiting.set_result(None)

    add(sock, ready)
    try:
        await waiting
    finally:
        remove(sock)


def _described(parted: Parted) -> Message:
    about = {name: getattr(parted, name) for name in _PLAIN}
    return {"op": "connection", **about, "buffer": parted.buffer.hex()}


def _parted(message: Message) -> Parted:
    return Parted(message["fds"][0], buffer=bytes.fromhex(message["buffer"]), **{name: message[name] for name in _PLAIN})
