"""Questions to one server over UDP: each has a socket and a port of its own, and all sockets hang on one descriptor of the event loop.

The socket is connected, so the kernel picks the port, at random over its whole ephemeral range and from its own generator (Linux
`udp_lib_get_port`), drops what comes from another address or port, and reports a closed port at once. A port is held for one question:
one that somebody has found out is of no use for the next. On Linux the socket itself serves again, as making one costs more than asking:
it is disconnected as soon as its reply is there, which gives up the port (udp(7), connect(2) with AF_UNSPEC), and gets another when it
is connected anew. Only a socket that nothing but its reply has come to is used again. What does not belong to the question is dropped
and counted; after FLOOD of such datagrams the port counts as found out, and the wait must go on elsewhere.
"""

from __future__ import annotations

import asyncio
import ctypes
import select
import socket
import sys
from collections.abc import Callable
from typing import Final

from svcdns.upstream.exchange import MAX_DATAGRAM, Address, ExchangeError, Judge, Question, failure, random_ident, shown, timed_out
from svcdns.wire.message import Message

FLOOD: Final = 64
"""Datagrams of strangers that one wait takes: a guess at the id is right once in 1024 times until then."""
AT_ONCE: Final = 64
"""Sockets that are read before others of the event loop have their turn."""
_EPOLL: Final = hasattr(select, "epoll")
_READABLE: Final = 1
_FLAGS: Final = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)
_REUSE: Final = sys.platform == "linux"
SPARE: Final = 64
"""Sockets to a server that wait for their next question."""
_libc: Final = ctypes.CDLL(None)
_NOWHERE: Final = bytes(16)
"""A `struct sockaddr` of the family AF_UNSPEC."""
_buffer: Final = bytearray(MAX_DATAGRAM)
_view: Final = memoryview(_buffer)

Take = Callable[[Message | ExchangeError], None]
"""Gets the reply, or why there is none; once."""


class FloodedError(ExchangeError):
    """Strangers have found out the port."""


class Datagram:
    """One question under way."""

    __slots__ = ("foreign", "judge", "sock", "take")

    def __init__(self, sock: socket.SocketType, judge: Judge, take: Take) -> None:
        self.sock, self.judge, self.take, self.foreign = sock, judge, take, 0


class Datagrams:
    """What is under way to one server."""

    def __init__(self, server: Address, source: str = "", foreign: Callable[[], None] = lambda: None) -> None:
        """`source` is the local address, "" for the kernel's choice; `foreign` is called for each datagram of a stranger."""
        self._server, self._source, self._foreign = server, source, foreign
        self._family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._open: dict[int, Datagram] = {}
        self._spare: list[socket.SocketType] = []
        self._epoll: select.epoll | None = None
        self._stopped = False

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, question: Question, take: Take) -> Datagram:
        """Sends a question; `take` is never called within. Raises ExchangeError."""
        ident, sock = random_ident(), None
        try:
            new = not self._spare
            sock = socket.SocketType(self._family, _FLAGS) if new else self._spare.pop()  # half the cost of a socket.socket
            if new:
                self._prepare(sock)
            sock.connect(self._server)
            sock.send(question.packet(ident))
            asked = Datagram(sock, Judge(question, ident), take)
            self._open[sock.fileno()] = asked
            if new:
                self._watch(sock)
        except OSError as error:
            if sock is not None:
                self._open.pop(sock.fileno(), None)
                sock.close()
            raise failure(self._server, error) from error
        return asked

    def _prepare(self, sock: socket.SocketType) -> None:
        if not _EPOLL:
            sock.setblocking(False)
        if self._source:
            sock.bind((self._source, 0))

    def drop(self, asked: Datagram) -> None:
        """Waits for this one no longer."""
        fd = asked.sock.fileno()
        if self._open.get(fd) is asked:
            del self._open[fd]
            if self._epoll is None:
                asyncio.get_running_loop().remove_reader(fd)
            asked.sock.close()  # which takes it out of epoll
            if self._stopped:
                self.stop()

    def _release(self, asked: Datagram) -> None:
        """Gives up the port of a question that was answered."""
        sock = asked.sock
        again = _REUSE and not (asked.foreign or self._source or self._stopped) and len(self._spare) < SPARE
        if again and not _libc.connect(sock.fileno(), _NOWHERE, len(_NOWHERE)):
            del self._open[sock.fileno()]
            self._spare.append(sock)
        else:
            self.drop(asked)

    def stop(self) -> None:
        """Lets go of the event loop as soon as nothing is under way."""
        self._stopped = True
        while self._spare:
            self._spare.pop().close()
        if self._epoll is not None and not self._open:
            asyncio.get_running_loop().remove_reader(self._epoll)
            self._epoll.close()
            self._epoll = None

    def _watch(self, sock: socket.SocketType) -> None:
        if not _EPOLL:
            asyncio.get_running_loop().add_reader(sock, self._readable, sock.fileno())
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll, self._drain)
        self._epoll.register(sock.fileno(), _READABLE)

    def _drain(self) -> None:
        ready = [] if self._epoll is None else self._epoll.poll(0, AT_ONCE)
        for fd, _ in ready:
            self._readable(fd)

    def _readable(self, fd: int) -> None:
        """Reads one datagram: others that wait have to wait for their turn."""
        asked = self._open.get(fd)
        if asked is None:
            return
        outcome: Message | ExchangeError | None
        try:
            size = asked.sock.recv_into(_buffer)
        except BlockingIOError:
            return
        except OSError as error:
            outcome = failure(self._server, error)
        else:
            outcome = asked.judge(bytes(_view[:size]))
            if outcome is None:
                outcome = self._stranger(asked)
        if isinstance(outcome, Message):
            self._release(asked)
        elif outcome is not None:
            self.drop(asked)
        else:
            return
        asked.take(outcome)

    def _stranger(self, asked: Datagram) -> FloodedError | None:
        self._foreign()
        asked.foreign += 1
        return FloodedError(f"{shown(self._server)}: too many replies of strangers") if asked.foreign >= FLOOD else None


async def over_udp(question: Question, server: Address, timeout: float, source: str = "") -> Message:
    """One server's reply to one question, within `timeout` seconds. Raises ExchangeError."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Message | ExchangeError] = loop.create_future()
    datagrams = Datagrams(server, source)

    def take(outcome: Message | ExchangeError) -> None:
        if not done.done():
            done.set_result(outcome)

    asked = datagrams.ask(question, take)
    timer = loop.call_later(timeout, take, timed_out(server))
    try:
        outcome = await done
    finally:
        timer.cancel()
        datagrams.drop(asked)
        datagrams.stop()
    if isinstance(outcome, ExchangeError):
        raise outcome
    return outcome
