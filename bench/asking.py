"""Questions as packets, asked one by one: what the scenarios that wait for an answer need."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

TYPES = {"A": 1, "AAAA": 28}


def packet(name: str, rtype: str = "A", ident: int = 1) -> bytes:
    """A question with RD."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", TYPES[rtype], 1)


def holds(reply: bytes, address: str) -> bool:
    """Whether a reply is NOERROR and has this address among its records."""
    return bool(reply) and reply[3] & 15 == 0 and ipaddress.ip_address(address).packed in reply[12:]


def addresses(reply: bytes) -> frozenset[bytes]:
    """The RDATA of the A and AAAA records of a reply's answer section. Raises ValueError where it ends too early."""
    found = []
    try:
        at = _after_name(reply, 12) + 4
        for _ in range(int.from_bytes(reply[6:8], "big")):
            at = _after_name(reply, at)
            rtype, _, _, size = struct.unpack_from(">HHIH", reply, at)
            at += 10 + size
            if rtype in TYPES.values():
                found.append(reply[at - size : at])
    except (IndexError, struct.error) as error:
        raise ValueError("the reply ends too early") from error
    if at > len(reply):
        raise ValueError("the reply ends in a record")
    return frozenset(found)


def _after_name(reply: bytes, at: int) -> int:
    """Where what follows a name begins."""
    while size := reply[at]:
        if size >= 0xC0:
            return at + 2
        at += 1 + size
    return at + 1


class Asker:
    """One UDP socket connected to a server on loopback."""

    def __init__(self, port: int, timeout: float = 1.0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))

    def ask(self, question: bytes) -> bytes:
        """The reply; empty if none comes in time, or nobody listens."""
        try:
            self.socket.send(question)
            while True:
                reply = self.socket.recv(4096)
                if reply[:2] == question[:2]:
                    return reply
        except OSError:
            return b""

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()


def write_questions(path: Path, questions: Iterable[str]) -> Path:
    """An input for dnsperf: a name and a type a line."""
    path.write_text("\n".join(questions) + "\n")
    return path
