"""A UDP client that waits for one response at a time, and functions that make and read DNS messages."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

TYPES = {"A": 1, "AAAA": 28}


def make_query(name: str, rtype: str = "A", ident: int = 1) -> bytes:
    """Returns a query message of class IN with RD set. `rtype` is `A` or `AAAA`. `name` may end with a dot."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.removesuffix(".").split("."))
    return struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", TYPES[rtype], 1)


def has_address(reply: bytes, address: str) -> bool:
    """Returns True if a response is NOERROR and contains this address."""
    return bool(reply) and reply[3] & 15 == 0 and ipaddress.ip_address(address).packed in reply[12:]


def addresses(reply: bytes) -> frozenset[bytes]:
    """Returns the RDATA of the A and AAAA records in the answer section.

    Raises ValueError if the response ends inside a record.
    """
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
        raise ValueError("truncated response") from error
    if at > len(reply):
        raise ValueError("truncated record")
    return frozenset(found)


def _after_name(reply: bytes, at: int) -> int:
    """Returns the offset after the domain name at offset `at` (RFC 1035 §4.1.4)."""
    while size := reply[at]:
        if size >= 0xC0:
            return at + 2
        at += 1 + size
    return at + 1


class Client:
    """One UDP socket connected to a server on loopback."""

    def __init__(self, port: int, timeout: float = 1.0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))

    def query(self, packet: bytes) -> bytes:
        """Sends a query and returns the response. Returns no octets after a timeout, or if the port is closed."""
        try:
            self.socket.send(packet)
            while True:
                reply = self.socket.recv(4096)
                if reply[:2] == packet[:2]:
                    return reply
        except OSError:
            return b""

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()


def write_queries(path: Path, queries: Iterable[str]) -> Path:
    """Writes an input file for dnsperf: a name and a type on each line."""
    path.write_text("\n".join(queries) + "\n")
    return path
