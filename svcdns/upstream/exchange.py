"""One question to one server, over UDP or TCP, and the reply that belongs to it.

Every UDP question has a socket of its own, connected, so that the kernel picks a random port and reports a closed one at once; its id
is random from the system's generator. A reply counts only if id and question match; anything else is dropped and does not end the wait
(RFC 5452 §9). Nothing is retried here."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.wire.codes import QR, TC
from svcdns.wire.errors import FormError
from svcdns.wire.message import Message, encode_query, parse_message
from svcdns.wire.names import read_name
from svcdns.wire.question import HEADER
from svcdns.wire.reply import Edns

Address = tuple[str, int]
MAX_DATAGRAM: Final = 65535


class ExchangeError(SvcdnsError):
    """The server gave no reply that counts; the text says why, as a log line ends."""


class Question(msgspec.Struct, frozen=True):
    """What is asked of a server; `flags` are the header bits RD, AD and CD."""

    name: bytes
    rtype: int
    rclass: int
    flags: int
    edns: Edns | None = None

    def packet(self, ident: int) -> bytes:
        """The question with that id."""
        return encode_query(ident, self.flags, self.name, self.rtype, self.rclass, self.edns)

    def is_answered_by(self, message: Message) -> bool:
        """Whether name, type and class match."""
        return message.name.lower() == self.name.lower() and message.rtype == self.rtype and message.rclass == self.rclass


def random_ident() -> int:
    """A message id nobody can guess."""
    return int.from_bytes(os.urandom(2), "big")


async def over_udp(question: Question, server: Address, timeout: float, source: str = "") -> Message:
    """The server's reply to a datagram, within `timeout` seconds. Raises ExchangeError."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Message] = loop.create_future()
    ident = random_ident()
    sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
    timer: asyncio.TimerHandle | None = None
    try:
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        sock.connect(server)
        sock.send(question.packet(ident))
        loop.add_reader(sock, _take, sock, done, judge(question, ident))
        timer = loop.call_later(timeout, _time_out, done, server)
        return await done
    except OSError as error:
        raise ExchangeError(f"{shown(server)}: {(error.strerror or str(error)).lower()}") from error
    finally:
        if timer is not None:
            timer.cancel()
            loop.remove_reader(sock)
        sock.close()


def _take(sock: socket.socket, done: asyncio.Future[Message], judge: Callable[[bytes], Message | None]) -> None:
    try:
        packet = sock.recv(MAX_DATAGRAM)
    except BlockingIOError:
        return
    except OSError as error:
        if not done.done():
            done.set_exception(error)
        return
    message = judge(packet)
    if message is not None and not done.done():
        done.set_result(message)


def judge(question: Question, ident: int) -> Callable[[bytes], Message | None]:
    """What tells the reply to a question from any other datagram (RFC 5452 §9)."""

    def judged(packet: bytes) -> Message | None:
        """The message, if it is the reply; one that is cut off counts as truncated."""
        if len(packet) < 12 or packet[:2] != ident.to_bytes(2, "big") or not packet[2] & 0x80:
            return None
        message: Message | None
        try:
            message = parse_message(packet)
        except FormError:
            message = _header_and_question(packet)
        return message if message is not None and question.is_answered_by(message) else None

    return judged


def _header_and_question(packet: bytes) -> Message | None:
    """What is left of a reply that does not parse: its header and question, marked as truncated."""
    try:
        ident, flags, questions, *_ = HEADER.unpack_from(packet)
        name, at = read_name(packet, 12)
    except FormError:
        return None
    if questions != 1 or len(packet) < at + 4:
        return None
    rtype, rclass = int.from_bytes(packet[at : at + 2], "big"), int.from_bytes(packet[at + 2 : at + 4], "big")
    return Message(ident, flags | TC, name, rtype, rclass)


def _time_out(done: asyncio.Future[Message], server: Address) -> None:
    if not done.done():
        done.set_exception(ExchangeError(f"{shown(server)}: i/o timeout"))


class TcpConnection:
    """A connection to a server that takes one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Address) -> None:
        """Made by `connect`."""
        self._reader, self._writer, self._server = reader, writer, server

    @classmethod
    async def connect(cls, server: Address, timeout: float, source: str = "") -> TcpConnection:
        """A new connection. Raises ExchangeError."""
        local = (source, 0) if source else None
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(*server, local_addr=local), timeout)
        except TimeoutError:
            raise ExchangeError(f"{shown(server)}: i/o timeout") from None
        except OSError as error:
            raise ExchangeError(f"{shown(server)}: {(error.strerror or str(error)).lower()}") from error
        return cls(reader, writer, server)

    @property
    def closed(self) -> bool:
        """Whether either side has ended it."""
        return self._writer.is_closing() or self._reader.at_eof()

    async def ask(self, question: Question, timeout: float) -> Message:
        """The reply to a question. Raises ExchangeError, and then the connection is of no more use."""
        ident = random_ident()
        packet = question.packet(ident)
        try:
            self._writer.write(len(packet).to_bytes(2, "big") + packet)
            async with asyncio.timeout(timeout):
                await self._writer.drain()
                while True:
                    size = int.from_bytes(await self._reader.readexactly(2), "big")
                    message = parse_message(await self._reader.readexactly(size))
                    if message.ident == ident and message.flags & QR and question.is_answered_by(message):
                        return message
        except TimeoutError:
            self.close()
            raise ExchangeError(f"{shown(self._server)}: i/o timeout") from None
        except (OSError, asyncio.IncompleteReadError, FormError) as error:
            self.close()
            raise ExchangeError(f"{shown(self._server)}: connection ended: {error}") from error
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()


def shown(server: Address) -> str:
    """`host:port`, an IPv6 host in brackets."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
