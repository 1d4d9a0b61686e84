"""The upstream name server of all measured servers, which answers for names below `example`: `python -m
bench.upstream`.

Names outside `example` get NXDOMAIN. Names with a label that begins with `silent-` are never answered over UDP. The
program prints its port, and serves until standard input ends.

Each line of standard input is a command:
- `drop` drops all queries over UDP, and `answer` ends this.
- `lie NAME` sends the packets of `LIES` in place of each reply over UDP.
- `count` prints the number of queries since the last other command.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, cast

from bench.cluster import EXTERNAL_ZONE, external_address
from bench.processes import end_with_parent, free_ports

TTL = 3600
_ZONE = bytes([len(EXTERNAL_ZONE)]) + EXTERNAL_ZONE.encode() + b"\0"
_SOA = b"\2ns" + _ZONE + b"\0" + struct.pack(">5I", 1, 7200, 1800, 86400, TTL)


def reply(packet: bytes) -> bytes:
    """Returns the response to a query: an A record with `external_address`, or NODATA for other types.

    A name outside the zone `example` gets NXDOMAIN.
    """
    end = packet.index(b"\0", 12) + 5
    question = packet[12:end]
    name, rtype = question[:-4].lower(), question[-4:-2]
    labels = name[1:].split(b"-")
    if not name.endswith(_ZONE) or len(labels) < 2:
        return packet[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question
    if rtype != b"\0\1":
        authority = name[-len(_ZONE) :] + struct.pack(">HHIH", 6, 1, TTL, len(_SOA)) + _SOA
        return packet[:2] + b"\x81\x80\0\1\0\0\0\1\0\0" + question + authority
    number = int(labels[1].split(bytes([len(EXTERNAL_ZONE)]))[0])
    record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", TTL, 4) + ipaddress.IPv4Address(external_address(number)).packed
    return packet[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record


def _wrong_id(packet: bytes) -> bytes:
    return bytes((packet[0] ^ 1,)) + packet[1:]


def _foreign(packet: bytes) -> bytes:
    """Returns the reply `packet` with one more record in the answer section: an address of another name."""
    record = b"\4bank\7example\3com\0\0\1\0\1" + struct.pack(">IH", TTL, 4) + bytes(4)
    return packet[:7] + bytes((packet[7] + 1,)) + packet[8:] + record


LIES: dict[str, Callable[[bytes], list[bytes]]] = {
    "wrong-id": lambda packet: [_wrong_id(packet)],
    "cut": lambda packet: [packet[:-1]],
    "foreign-record": lambda packet: [_foreign(packet)],
    "wrong-id-then-right": lambda packet: [_wrong_id(packet), packet],
    "cut-then-right": lambda packet: [packet[:-1], packet],
    "flood": lambda packet: [_wrong_id(packet)] * 40,
}
"""For each lie, a function that returns the packets to send in place of the right reply."""


class _Datagrams(asyncio.DatagramProtocol):
    """Answers queries over UDP, and counts them."""

    def __init__(self) -> None:
        self.dropping, self.received = False, 0
        self.lie: Callable[[bytes], list[bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.DatagramTransport", transport
        )  # the class of CPython 3.11 does not declare this type

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.dropping and len(data) > 16 and not data[2] & 0x80 and b"silent-" not in data:
            self.received += data[12] > 0
            right = reply(data)
            for packet in [right] if self.lie is None or not data[12] else self.lie(right):
                self._transport.sendto(packet, addr)

    def command(self, line: str) -> int:
        """Runs a command (see the module's docstring). Returns the number of queries received over UDP, without health
        checks.

        The count begins again at each command.
        """
        word, _, name = line.partition(" ")
        if word in ("drop", "answer", "lie"):
            self.dropping, self.received, self.lie = word == "drop", 0, LIES[name] if word == "lie" else None
        return self.received


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            answer = reply(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
            writer.write(len(answer).to_bytes(2, "big") + answer)
    writer.close()


async def serve() -> None:
    """Serves over UDP and TCP until standard input ends."""
    loop = asyncio.get_running_loop()
    [port] = free_ports(1)
    await asyncio.start_server(_stream, "127.0.0.1", port)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", port))
    _, datagrams = await loop.create_datagram_endpoint(_Datagrams, sock=sock)
    print(port, flush=True)
    ended = asyncio.Event()

    def read_command() -> None:
        line = sys.stdin.readline()
        if line:
            print(datagrams.command(line.strip()), flush=True)
        else:
            ended.set()

    loop.add_reader(sys.stdin, read_command)
    await ended.wait()


def main() -> None:
    """Runs the upstream name server."""
    end_with_parent()
    asyncio.run(serve())


if __name__ == "__main__":
    main()
