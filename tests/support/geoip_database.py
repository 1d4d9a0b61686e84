"""Writes small databases in the MaxMind DB format, with which tests check the reader."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any, Final

MARKER: Final = b"\xab\xcd\xefMaxMind.com"
"""The octets before the metadata of a database, at its end."""
ABOUT: Final = {
    "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1, "database_type": "GeoLite2-City",
    "description": {"en": "a test"}, "ip_version": 6, "languages": ["en"], "node_count": 1, "record_size": 24,
}  # fmt: skip
"""The metadata of a database."""


def database(
    networks: Mapping[str, Any], kind: str = "GeoLite2-City", *, ip_version: int = 6, record_size: int = 24
) -> bytes:
    """Returns a database with the data of each network. In a database for IPv6, IPv4 networks are below ::/96."""
    nodes: list[list[int | tuple[int] | None]] = [[None, None]]
    section = b""
    for text, data in networks.items():
        network = ipaddress.ip_network(text)
        bits = "".join(f"{octet:08b}" for octet in network.network_address.packed)[: network.prefixlen]
        if network.version == 4 and ip_version == 6:
            bits = "0" * 96 + bits
        at = 0
        for bit in bits[:-1]:
            following = nodes[at][int(bit)]
            if not isinstance(following, int):
                following = len(nodes)
                nodes[at][int(bit)] = following
                nodes.append([None, None])
            at = following
        nodes[at][int(bits[-1])] = (len(section),)
        section += encoded(data)
    count = len(nodes)

    def number(child: int | tuple[int] | None) -> int:
        return count if child is None else child[0] + count + 16 if isinstance(child, tuple) else child

    tree = b"".join(_node(number(left), number(right), record_size) for left, right in nodes)
    about = ABOUT | {
        "database_type": kind, "ip_version": ip_version, "node_count": count, "record_size": record_size,
    }  # fmt: skip
    return tree + bytes(16) + section + MARKER + encoded(about)


def _node(left: int, right: int, record_size: int) -> bytes:
    if record_size == 28:
        middle = left >> 24 << 4 | right >> 24
        return (left & 0xFFFFFF).to_bytes(3, "big") + bytes((middle,)) + (right & 0xFFFFFF).to_bytes(3, "big")
    return left.to_bytes(record_size // 8, "big") + right.to_bytes(record_size // 8, "big")


def encoded(value: Any) -> bytes:
    """Returns a value in the form of the data section."""
    if isinstance(value, bool):
        return _head(14, int(value))
    if isinstance(value, str):
        return _head(2, len(value.encode())) + value.encode()
    if isinstance(value, float):
        return _head(3, 8) + struct.pack(">d", value)
    if isinstance(value, int):
        octets = value.to_bytes((value.bit_length() + 7) // 8, "big")
        return _head(6, len(octets)) + octets
    if isinstance(value, dict):
        return _head(7, len(value)) + b"".join(encoded(key) + encoded(item) for key, item in value.items())
    if isinstance(value, list):
        return _head(11, len(value)) + b"".join(map(encoded, value))
    assert isinstance(value, bytes)
    return value


def _head(kind: int, size: int) -> bytes:
    more = b""
    for least, count, marker in ((65821, 3, 31), (285, 2, 30), (29, 1, 29)):
        if size >= least:
            more, size = (size - least).to_bytes(count, "big"), marker
            break
    return (bytes((kind << 5 | size,)) if kind < 8 else bytes((size, kind - 7))) + more


PLACE: Final = {
    "city": {"names": {"de": "Musterstadt", "en": "Exampleshire"}},
    "country": {"iso_code": "GB", "names": {"en": "United Kingdom"}, "is_in_european_union": True},
    "continent": {"code": "EU", "names": {"en": "Europe"}},
    "location": {"latitude": 52.2242, "longitude": -0.00001, "time_zone": "Europe/London"},
    "postal": {"code": "CB4"},
    "subdivisions": [{"iso_code": "ENG"}, {"iso_code": "CAM"}],
}
"""The data of a network in a database of places."""
