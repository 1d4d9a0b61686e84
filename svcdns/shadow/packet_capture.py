"""Finds the DNS messages over UDP in a packet capture.

Sources: the formats pcap and pcapng (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng), RFC 791, RFC 8200, RFC 768.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final

from svcdns.shadow.errors import ShadowError

DNS_PORT: Final = 53
_ORDERS: Final = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",
}
"""The byte order for each magic number of pcap, with times in microseconds or nanoseconds."""
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
_HEADERS: Final = {0: 4, 1: 14, 101: 0, 108: 4, 113: 16, 228: 0, 229: 0, 276: 20}
"""The length of the link-layer header in octets, for each link type that is known."""
_VLAN: Final = b"\x81\x00"
_UDP: Final = 17


def is_capture(content: bytes) -> bool:
    """Returns True if the content begins as a file in the format pcap or pcapng."""
    return content[:4] in _ORDERS or content[:4] == _PCAPNG


def payloads(content: bytes, left_out: Counter[str]) -> Iterator[bytes]:
    """Yields the payload of each UDP packet to port 53. Adds to `left_out` the number of other packets, by reason.

    Raises ShadowError for a file that is cut off or malformed.
    """
    try:
        frames = _pcapng(content) if content[:4] == _PCAPNG else _pcap(content)
        for link, frame in frames:
            payload = _payload(link, frame)
            if isinstance(payload, str):
                left_out[payload] += 1
            else:
                yield payload
    except (struct.error, IndexError) as error:
        raise ShadowError("the packet capture is cut off") from error


def _pcap(content: bytes) -> Iterator[tuple[int, bytes]]:
    order = _ORDERS[content[:4]]
    link = struct.unpack_from(f"{order}I", content, 20)[0] & 0xFFFF
    at = 24
    while at + 16 <= len(content):
        length = struct.unpack_from(f"{order}I", content, at + 8)[0]
        yield link, content[at + 16 : at + 16 + length]
        at += 16 + length


def _pcapng(content: bytes) -> Iterator[tuple[int, bytes]]:
    order, at = "<", 0
    links: list[int] = []
    while at + 12 <= len(content):
        if content[at : at + 4] == _PCAPNG:
            order = "<" if content[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            links = []
        kind, length = struct.unpack_from(f"{order}II", content, at)
        if length < 12:
            raise ShadowError("the packet capture has a block that is too short")
        if kind == 1:
            links.append(struct.unpack_from(f"{order}H", content, at + 8)[0])
        elif kind == 6:
            interface, _, _, captured = struct.unpack_from(f"{order}IIII", content, at + 8)
            yield links[interface], content[at + 28 : at + 28 + captured]
        at += length


def _payload(link: int, frame: bytes) -> bytes | str:
    """Returns the UDP payload of a frame, or the reason why there is none."""
    if link not in _HEADERS:
        return f"the link type {link}"
    at = _HEADERS[link]
    if link == 1 and frame[12:14] == _VLAN:
        at += 4
    packet = frame[at:]
    if len(packet) < 28:
        return "no IP packet"
    version = packet[0] >> 4
    if version == 4:
        if struct.unpack_from("!H", packet, 6)[0] & 0x3FFF:
            return "a fragment"
        protocol, start = packet[9], (packet[0] & 15) * 4
    elif version == 6:
        protocol, start = packet[6], 40
    else:
        return "no IP packet"
    if protocol != _UDP:
        return "no UDP packet"
    if len(packet) < start + 8:
        return "no IP packet"
    if struct.unpack_from("!H", packet, start + 2)[0] != DNS_PORT:
        return f"not to port {DNS_PORT}"
    length = struct.unpack_from("!H", packet, start + 4)[0]
    if len(packet) < start + length:
        return "a packet that was not captured whole"
    return packet[start + 8 : start + length]
