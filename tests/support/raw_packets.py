"""Ethernet frames with a UDP datagram, written octet by octet: for packets that a socket cannot send."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from bench.virtual_network import Namespace

UDP: Final = 17
IPV4, IPV6, VLAN = 0x0800, 0x86DD, 0x8100
ALL_PROTOCOLS: Final = 3
"""ETH_P_ALL of linux/if_ether.h."""
_SOL_PACKET, _PACKET_AUXDATA, _CHECKSUM_NOT_READY = 263, 8, 1 << 3
_OUTGOING: Final = 4
"""PACKET_OUTGOING of linux/if_packet.h."""


def checksum(data: bytes) -> int:
    """Returns the ones' complement of the ones' complement sum of `data` (RFC 1071)."""
    data += bytes(len(data) & 1)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram in an Ethernet frame. The addresses are IPv4 or IPv6 texts.

    - `checksum_error` is combined with the right checksum by exclusive or; None sends 0, which means no checksum.
    - `length_error` is added to the length in the UDP header.
    - `padding` is the number of zero octets after the IP packet.
    - `fragment` is the field of flags and fragment offset (RFC 791).
    - `options` are the options of the IPv4 header, or an IPv6 hop-by-hop header without its first octet.
    """

    source: str
    target: str
    source_port: int
    target_port: int
    payload: bytes
    source_mac: bytes
    target_mac: bytes
    checksum_error: int | None = 0
    length_error: int = 0
    padding: int = 0
    fragment: int = 0
    options: bytes = b""
    vlan: int | None = None

    @property
    def is_ipv6(self) -> bool:
        """Returns True for IPv6."""
        return ":" in self.target

    def udp(self) -> bytes:
        """Returns the UDP header and the payload."""
        family = socket.AF_INET6 if self.is_ipv6 else socket.AF_INET
        addresses = socket.inet_pton(family, self.source) + socket.inet_pton(family, self.target)
        length = 8 + len(self.payload) + self.length_error
        head = struct.pack(">HHH", self.source_port, self.target_port, length)
        pseudo = addresses + (struct.pack(">IxxxB", length, UDP) if self.is_ipv6 else struct.pack(">xBH", UDP, length))
        right = checksum(pseudo + head + bytes(2) + self.payload) or 0xFFFF
        sent = 0 if self.checksum_error is None else right ^ self.checksum_error
        return head + struct.pack(">H", sent) + self.payload

    def frame(self) -> bytes:
        """Returns the whole frame."""
        protocol, packet = (IPV6, self._ipv6()) if self.is_ipv6 else (IPV4, self._ipv4())
        tag = b"" if self.vlan is None else struct.pack(">HH", VLAN, self.vlan)
        return self.target_mac + self.source_mac + tag + struct.pack(">H", protocol) + packet + bytes(self.padding)

    def _ipv4(self) -> bytes:
        body, size = self.udp(), 20 + len(self.options)
        addresses = socket.inet_aton(self.source) + socket.inet_aton(self.target)
        head = struct.pack(">BBHHHBB", 0x40 | size // 4, 0, size + len(body), 1, self.fragment, 64, UDP)
        total = checksum(head + bytes(2) + addresses + self.options)
        return head + struct.pack(">H", total) + addresses + self.options + body

    def _ipv6(self) -> bytes:
        body = self.udp()
        first = 0 if self.options else UDP
        extension = bytes([UDP]) + self.options if self.options else b""
        addresses = b"".join(socket.inet_pton(socket.AF_INET6, one) for one in (self.source, self.target))
        return struct.pack(">IHBB", 6 << 28, len(extension + body), first, 64) + addresses + extension + body


def udp_of(frame: bytes) -> tuple[bytes, bytes]:
    """Returns the pseudo-header and the UDP datagram of a frame without VLAN tag, IP options and extension headers."""
    packet = frame[14:]
    if packet[0] >> 4 == 6:
        return packet[8:40] + struct.pack(">IxxxB", len(packet) - 40, UDP), packet[40:]
    length = int.from_bytes(packet[2:4], "big") - 20
    return packet[12:20] + struct.pack(">xBH", UDP, length), packet[20 : 20 + length]


class Frame(NamedTuple):
    """A frame that an interface received. `is_partial` is True if its checksum is still to be completed."""

    octets: bytes
    is_partial: bool

    def has_right_checksum(self) -> bool:
        """Returns True if the checksums of the IPv4 header and of UDP are right.

        A partial checksum of UDP is the sum of the pseudo-header.
        """
        pseudo, datagram = udp_of(self.octets)
        if self.octets[14] >> 4 == 4 and checksum(self.octets[14:34]):
            return False
        if self.is_partial:
            return ~checksum(pseudo) & 0xFFFF == int.from_bytes(datagram[6:8], "big")
        return datagram[6:8] == b"\0\0" or not checksum(pseudo + datagram)


class RawInterface:
    """Sends and receives whole frames of one interface."""

    def __init__(self, namespace: Namespace, interface: str, timeout: float = 10.0) -> None:
        self.socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        self.socket.bind((interface, 0))
        self.socket.settimeout(timeout)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)

    def send(self, datagram: Datagram) -> None:
        self.socket.send(datagram.frame())

    def receive(self, source_port: int) -> Frame:
        """Returns the next frame that arrives with a UDP datagram from this port. Raises TimeoutError."""
        while True:
            octets, ancillary, _, address = self.socket.recvmsg(65535, 100)
            if address[2] == _OUTGOING or len(octets) < 42:
                continue
            status = struct.unpack_from("=I", ancillary[0][2])[0] if ancillary else 0
            at = 54 if octets[12:14] == struct.pack(">H", IPV6) else 34
            if octets[at : at + 2] == source_port.to_bytes(2, "big"):
                return Frame(octets, bool(status & _CHECKSUM_NOT_READY))

    def close(self) -> None:
        self.socket.close()
