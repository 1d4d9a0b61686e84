"""Questions to one server over UDP: each has a socket and a port of its own.

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
import socket
import sys
from collections.abc import Callable
from typing import Final

from svcdns.eventloop.loop import add_drain, remove_drain
from svcdns.upstream.query import MAX_DATAGRAM, Address, ExchangeError, Question, failure, random_ident, shown, timed_out
from svcdns.wire.message import Message

FLOOD: Final = 64
"""Datagrams of strangers that one wait takes: a guess at the id is right once in 1024 times until then."""
_NONBLOCK: Final = int(getattr(socket, "SOCK_NONBLOCK", 0))
_REUSE: Final = sys.platform == "linux"
SPARE: Final = 256
"""Sockets to a server that wait for their next question."""
_disconnect: Final = ctypes.PyDLL(None).connect
_NOWHERE_SIZE: Final = 16
_NOWHERE: Final = ctypes.c_char_p(bytes(_NOWHERE_SIZE))
"""A `struct sockaddr` of the family AF_UNSPEC."""

Take = Callable[[bytes | ExchangeError], None]
"""Gets the reply, or why there is none; once."""


class FloodedError(ExchangeError):
    """Strangers have found out the port."""


class Port:
    """A socket for one question at a time."""

    __slots__ = ("_datagrams", "_ident", "_question", "foreign", "sock", "take")

    def __init__(self, datagrams: Datagrams, sock: socket.SocketType) -> None:
        self._datagrams, self.sock = datagrams, sock
        self._question: Question | None = None
        self._ident = self.foreign = 0
        self.take: Take | None = None
        """Who waits; None while nobody does."""

    def ask(self, question: Question, server: Address, take: Take) -> None:
        """Sends the question. Raises OSError."""
        self._question, self._ident = question, random_ident()
        self.sock.connect(server)
        self.sock.send(question.packet(self._ident))
        self.take = take

    def read(self) -> None:
        """Reads one datagram: others that wait have to wait for their turn."""
        take, question, datagrams = self.take, self._question, self._datagrams
        if take is None or question is None:
            datagrams.discard(self)
            return
        try:
            packet = self.sock.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError as error:
            datagrams.drop(self)
            take(failure(datagrams.server, error))
            return
        if question.admits(self._ident, packet):
            datagrams.release(self)
            take(packet)
            return
        datagrams.foreign()
        self.foreign += 1
        if self.foreign >= FLOOD:
            datagrams.drop(self)
            take(FloodedError(f"{shown(datagrams.server)}: too many replies of strangers"))


class Datagrams:
    """What is under way to one server."""

    def __init__(self, server: Address, source: str = "", foreign: Callable[[], None] = lambda: None) -> None:
        """`source` is the local address, "" for the kernel's choice; `foreign` is called for each datagram of a stranger."""
        self.server, self.foreign, self._source = server, foreign, source
        self._family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._under_way: set[Port] = set()
        self._spare: list[Port] = []
        self._once = bool(source) or not _REUSE
        """Whether no socket serves again."""

    def __len__(self) -> int:
        return len(self._under_way)

    def ask(self, question: Question, take: Take) -> Port:
        """Sends a question; `take` is never called within. Raises ExchangeError."""
        port = None
        try:
            port = self._spare.pop() if self._spare else self._open()
            port.ask(question, self.server, take)
        except OSError as error:
            if port is not None:
                self._close(port)
            raise failure(self.server, error) from error
        self._under_way.add(port)
        return port

    def _open(self) -> Port:
        sock = socket.SocketType(self._family, socket.SOCK_DGRAM | _NONBLOCK)  # half the cost of a socket.socket
        try:
            if not _NONBLOCK:
                sock.setblocking(False)
            if self._source:
                sock.bind((self._source, 0))
        except OSError:
            sock.close()
            raise
        port = Port(self, sock)
        add_drain(asyncio.get_running_loop(), sock, port.read)
        return port

    def drop(self, port: Port) -> None:
        """Waits for this one no longer."""
        if port.take is not None:
            port.take = None
            self._under_way.discard(port)
            self._close(port)

    def release(self, port: Port) -> None:
        """Gives up the port of a question that was answered."""
        if self._once or port.foreign or len(self._spare) >= SPARE or _disconnect(port.sock.fileno(), _NOWHERE, _NOWHERE_SIZE):
            self.drop(port)
            return
        port.take = None
        self._under_way.discard(port)
        self._spare.append(port)

    def discard(self, port: Port) -> None:
        """Something has come to a socket that nobody asks by at present: a second reply, most likely."""
        self.foreign()
        if port in self._spare:
            self._spare.remove(port)
            self._close(port)

    def stop(self) -> None:
        """Keeps nothing for later questions."""
        self._once = True
        while self._spare:
            self._close(self._spare.pop())

    @staticmethod
    def _close(port: Port) -> None:
        remove_drain(asyncio.get_running_loop(), port.sock)
        port.sock.close()


async def over_udp(question: Question, server: Address, timeout: float, source: str = "") -> Message:
    """One server's reply to one question, within `timeout` seconds. Raises ExchangeError."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes | ExchangeError] = loop.create_future()
    datagrams = Datagrams(server, source)

    def take(outcome: bytes | ExchangeError) -> None:
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
    return question.opened(outcome)
