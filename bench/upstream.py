"""The name server behind all that forward: it answers every name below `example` from a formula, everything else with NXDOMAIN.

`python -m bench.upstream` prints its port and serves until its standard input ends. It need not be fast: what is measured is answered
from caches.
"""

from __future__ import annotations

import ipaddress
import selectors
import socket
import struct
import sys

from bench.cluster import OUTSIDE_ZONE, outside_address
from bench.processes import end_with_parent

TTL = 3600
_ZONE = bytes([len(OUTSIDE_ZONE)]) + OUTSIDE_ZONE.encode() + b"\0"
_SOA = b"\2ns" + _ZONE + b"\0" + struct.pack(">5I", 1, 7200, 1800, 86400, TTL)


def reply(packet: bytes) -> bytes:
    """The reply to a question: A `outside_address`, other types NODATA, other zones NXDOMAIN."""
    end = packet.index(b"\0", 12) + 5
    question = packet[12:end]
    name, rtype = question[:-4].lower(), question[-4:-2]
    labels = name[1:].split(b"-")
    if not name.endswith(_ZONE) or len(labels) < 2:
        return packet[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question
    if rtype != b"\0\1":
        authority = name[-len(_ZONE) :] + struct.pack(">HHIH", 6, 1, TTL, len(_SOA)) + _SOA
        return packet[:2] + b"\x81\x80\0\1\0\0\0\1\0\0" + question + authority
    number = int(labels[1].split(bytes([len(OUTSIDE_ZONE)]))[0])
    record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", TTL, 4) + ipaddress.IPv4Address(outside_address(number)).packed
    return packet[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record


def main() -> None:
    """Serves."""
    end_with_parent()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, selectors.DefaultSelector() as selector:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        server.bind(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        selector.register(server, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return
                packet, sender = server.recvfrom(4096)
                if len(packet) > 16 and not packet[2] & 0x80:
                    server.sendto(reply(packet), sender)


if __name__ == "__main__":
    main()
