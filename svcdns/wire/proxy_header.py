"""Reads headers of the PROXY protocol, versions 1 and 2 (https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt).

A proxy sends the header before the data of a connection or datagram. The header has the addresses of the client. As in
CoreDNS, an undefined family, an address that does not fit its family, and an overlong header are errors.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

from svcdns.wire.errors import FormError

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""The first octets of a header of version 2."""
_TEXT: Final = b"PROXY"
"""The first octets of a header of version 1."""
_MAX_TEXT: Final = 107
"""The most octets of a header of version 1."""
MAX_HEADER: Final = 4096
"""The most octets of a header of version 2 after its first 16 octets."""
_FIXED: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED: Final = 0x00
_SIZES: Final = {0x11: 4, 0x12: 4, 0x21: 16, 0x22: 16}
"""The octets of an address, by family and transport: TCP and UDP over IPv4 and IPv6."""
_UNIX: Final = {0x31: 216, 0x32: 216}
"""The octets of the addresses of Unix sockets."""
UDP: Final = (0x12, 0x22)
"""The families and transports for UDP."""

Endpoint = tuple[str, int]
"""An address, as text, and a port."""


class IncompleteHeaderError(Exception):
    """Raised if more octets are needed to read the header."""


class ProxyHeader(NamedTuple):
    """A header.

    `size` is its number of octets, and `version` 1 or 2. `transport` is the octet of family and transport; 0 if it is
    not specified. `source` and `destination` are the client and the address that the client has connected to; None if
    the proxy itself opened the connection, or if they are no IP addresses.
    """

    size: int
    version: int
    transport: int
    source: Endpoint | None = None
    destination: Endpoint | None = None


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Returns the header at the start of `data`, or None if `data` does not begin with one.

    Raises FormError for a malformed header, and IncompleteHeaderError if more octets are needed.
    """
    if data.startswith(SIGNATURE):
        return _version_2(data)
    if data.startswith(_TEXT):
        return _version_1(data)
    if SIGNATURE.startswith(data) or _TEXT.startswith(data):
        raise IncompleteHeaderError
    return None


def _version_1(data: bytes) -> ProxyHeader:
    end = data.find(b"\n", 0, _MAX_TEXT)
    if end < 0:
        if len(data) < _MAX_TEXT:
            raise IncompleteHeaderError
        raise FormError("a PROXY header of version 1 without its end")
    words = data[:end].decode("latin-1").split(" ")
    if not words[-1].endswith("\r") or words[0] != "PROXY" or len(words) < 2:
        raise FormError("a malformed PROXY header of version 1")
    words[-1] = words[-1].removesuffix("\r")
    if words[1] == "UNKNOWN":
        return ProxyHeader(end + 1, 1, _UNSPECIFIED)
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6:
        raise FormError("a malformed PROXY header of version 1")
    source, destination = (_endpoint(words[at], words[at + 2], words[1]) for at in (2, 3))
    return ProxyHeader(end + 1, 1, 0x11 if words[1] == "TCP4" else 0x21, source, destination)


def _endpoint(host: str, port: str, family: str) -> Endpoint:
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise FormError("a PROXY header with an invalid address") from error
    fits = address.version == (4 if family == "TCP4" else 6) and "%" not in host
    if not fits or not (port.isascii() and port.isdecimal()) or int(port) > 65535 or (port != "0" and port[0] == "0"):
        raise FormError("a PROXY header with an invalid address or port")
    return _unmapped(address), int(port)


def _version_2(data: bytes) -> ProxyHeader:
    if len(data) < _FIXED:
        raise IncompleteHeaderError
    command, transport, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise FormError("a PROXY header with an unknown version or command")
    known = transport == _UNSPECIFIED or transport in _SIZES or transport in _UNIX
    if not known or (transport == _UNSPECIFIED and command == _PROXY):
        raise FormError("a PROXY header with an unknown family or transport")
    if length > MAX_HEADER:
        raise FormError("a PROXY header that is too long")
    size = _SIZES.get(transport, 0)
    if command == _PROXY and length < (2 * size + 4 if size else _UNIX[transport]):
        raise FormError("a PROXY header that is too short for its addresses")
    if len(data) < _FIXED + length:
        raise IncompleteHeaderError
    if command == _LOCAL or not size:
        return ProxyHeader(_FIXED + length, 2, _UNSPECIFIED if command == _LOCAL else transport)
    at = _FIXED + 2 * size
    hosts = (data[_FIXED : _FIXED + size], data[_FIXED + size : at])
    ports = (data[at : at + 2], data[at + 2 : at + 4])
    source, destination = (
        (_unmapped(ipaddress.ip_address(host)), int.from_bytes(port, "big"))
        for host, port in zip(hosts, ports, strict=True)
    )
    return ProxyHeader(_FIXED + length, 2, transport, source, destination)


def _unmapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Returns the text of an address; an IPv4 address that is mapped into IPv6 becomes an IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(address if mapped is None else mapped)
