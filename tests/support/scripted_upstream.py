"""A DNS server on loopback with scripted replies, over UDP and TCP on one port, inside the test's event loop.

The server may send any packets: malformed ones, several for one query, packets from another port (`Elsewhere`), and
packets that wait for `release` (`Held`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Self

import dns.flags
import dns.message
import dns.rrset

from svcdns.wire.message import Message, parse_message
from tests.support.sockets import udp_and_tcp

Respond = Callable[[dns.message.Message, str], list[bytes] | bytes | None]
"""Returns the packets for a query and its transport, or None for silence."""


def answer(*lines: str, rcode: int = 0, flags: int = 0) -> Respond:
    """Returns a function that replies with these records in the answer section."""

    def respond(query: dns.message.Message, _transport: str) -> bytes:
        reply = dns.message.make_response(query, recursion_available=True)
        reply.set_rcode(dns.rcode.Rcode.make(rcode))
        reply.flags |= flags
        for line in lines:
            name, ttl, rclass, rtype, *rest = line.split()
            reply.answer.append(dns.rrset.from_text(name, int(ttl), rclass, rtype, " ".join(rest)))
        return reply.to_wire(max_size=65535)

    return respond


def header_alone(rcode: int) -> Respond:
    """Returns a function that replies with a header only, without a question section."""
    return lambda query, _: query.id.to_bytes(2, "big") + bytes([0x81, 0x80 | rcode]) + bytes(8)


def silence(_query: dns.message.Message, _transport: str) -> None:
    """Sends no reply."""


class Elsewhere(bytes):
    """A packet that is sent over UDP from another port than the server's port."""


class Held(bytes):
    """A packet that is sent only by `release`."""


def held(respond: Respond) -> Respond:
    """Prepares the replies of `respond`, but holds them until `release`."""

    def responding(query: dns.message.Message, transport: str) -> list[bytes]:
        found = respond(query, transport)
        return [Held(packet) for packet in ([] if found is None else [found] if isinstance(found, bytes) else found)]

    return responding


def only(transport: str, respond: Respond) -> Respond:
    """Returns a function that replies with `respond` over this transport, and does not reply over the
    other transport.
    """
    return lambda query, by: respond(query, by) if by == transport else None


class ScriptedUpstream:
    """A DNS server with scripted replies. `respond` may be changed at any time. `asked` has the queries, with their
    transports.
    """

    def __init__(self, respond: Respond | None = None, tls: ssl.SSLContext | None = None) -> None:
        """Creates the server. Without `respond`, replies are NOERROR without records. With `tls`, the TCP port accepts
        only TLS.
        """
        self.respond, self.tls = respond or answer(), tls
        self.resumed: list[bool] = []
        """Of each connection over TLS, whether it went on with an earlier session."""
        self.asked: list[tuple[Message, str]] = []
        self.connections = 0
        self.port = 0
        self._arrived: asyncio.Queue[Message] = asyncio.Queue()
        self._writers: set[asyncio.StreamWriter] = set()
        self._held: list[Callable[[], object]] = []
        self._elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def __aenter__(self) -> Self:
        """Binds one port for both transports."""
        self._udp, listener = udp_and_tcp()
        self._udp.setblocking(False)
        self.port = self._udp.getsockname()[1]
        self._tcp = await asyncio.start_server(self._serve, sock=listener, ssl=self.tls)
        asyncio.get_running_loop().add_reader(self._udp, self._datagram)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self._tcp.wait_closed()

    def close(self) -> None:
        """Stops listening, and closes the connections."""
        if self._udp.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._udp)
            self._udp.close()
        self._elsewhere.close()
        self._tcp.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Closes the open connections."""
        for writer in self._writers:
            writer.close()

    @property
    def holds(self) -> int:
        """Returns the number of held packets."""
        return len(self._held)

    def release(self, *, backwards: bool = False) -> None:
        """Sends the held packets, in reverse order if `backwards`."""
        sending, self._held = self._held, []
        for send in reversed(sending) if backwards else sending:
            send()

    async def question(self) -> Message:
        """Waits for the next query, and returns it."""
        return await asyncio.wait_for(self._arrived.get(), 10)

    @property
    def transports(self) -> list[str]:
        """Returns the transport of each query."""
        return [transport for _, transport in self.asked]

    def _answers(self, packet: bytes, transport: str) -> list[bytes]:
        message = parse_message(packet)
        self.asked.append((message, transport))
        self._arrived.put_nowait(message)
        found = self.respond(dns.message.from_wire(packet), transport)
        return [] if found is None else [found] if isinstance(found, bytes) else found

    def _datagram(self) -> None:
        packet, client = self._udp.recvfrom(65535)
        for reply in self._answers(packet, "udp"):
            sock = self._elsewhere if isinstance(reply, Elsewhere) else self._udp
            self._send(reply, partial(sock.sendto, reply, client))

    def _send(self, reply: bytes, send: Callable[[], object]) -> None:
        if isinstance(reply, Held):
            self._held.append(send)
        else:
            send()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        if self.tls is not None:
            self.resumed.append(writer.get_extra_info("ssl_object").session_reused)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                for reply in self._answers(await reader.readexactly(size), "tcp"):
                    self._send(reply, partial(writer.write, len(reply).to_bytes(2, "big") + reply))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
