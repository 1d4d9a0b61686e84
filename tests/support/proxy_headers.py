"""Headers of the PROXY protocol, as a proxy sends them."""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL: Final = SIGNATURE + b"\x20\0\0\0"
"""A header of version 2 for a connection that the proxy itself opens."""


def version_2(source: str, port: int = 1234, *, tcp: bool = False, command: int = 0x21, more: bytes = b"") -> bytes:
    """Returns a header of version 2 with this client."""
    address = ipaddress.ip_address(source)
    other = ipaddress.ip_address("192.0.2.53" if address.version == 4 else "2001:db8::53")
    family = (0x10 if address.version == 4 else 0x20) + (1 if tcp else 2)
    body = address.packed + other.packed + struct.pack(">HH", port, 53) + more
    return SIGNATURE + bytes((command, family)) + struct.pack(">H", len(body)) + body


def version_1(source: str, port: int = 1234) -> bytes:
    """Returns a header of version 1 with this client."""
    family, other = ("TCP6", "2001:db8::53") if ":" in source else ("TCP4", "192.0.2.53")
    return f"PROXY {family} {source} {other} {port} 53\r\n".encode()
