"""Reads databases in the MaxMind DB format, version 2 (https://maxmind.github.io/MaxMind-DB/).

A database is a binary tree over the bits of an address, and a section with the data of its networks. The reader checks
every offset, so that a damaged file raises DatabaseError, and nothing else.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from svcdns.errors import SvcdnsError
from svcdns.plugin_api.networks import packed

MARKER: Final = b"\xab\xcd\xefMaxMind.com"
"""The octets before the metadata of a database, at its end."""
_SEPARATOR: Final = 16
"""The number of zero octets between the tree and the data."""
_MAX_DEPTH: Final = 32
"""The most levels of data within data, pointers included."""
_CITY: Final = frozenset({
    "DBIP-City-Lite", "DBIP-Country-Lite", "DBIP-Country", "DBIP-Location (compat=City)", "GeoLite2-City",
    "GeoIP-City-Redacted-US", "GeoIP2-City", "GeoIP2-City-Africa", "GeoIP2-City-Asia-Pacific", "GeoIP2-City-Europe",
    "GeoIP2-City-North-America", "GeoIP2-City-South-America", "GeoIP2-Precision-City", "GeoLite2-Country", "GeoIP2-Country",
    "DBIP-ISP (compat=Enterprise)", "DBIP-Location-ISP (compat=Enterprise)", "GeoIP-Enterprise-Redacted-US",
    "GeoIP2-Enterprise",
})  # fmt: skip
"""The types of databases with places, as in CoreDNS."""
_ASN: Final = frozenset({
    "DBIP-ASN-Lite (compat=GeoLite2-ASN)", "GeoLite2-ASN", "GeoIP2-ISP", "GeoIP2-Precision-ISP",
})  # fmt: skip
"""The types of databases with autonomous systems, as in CoreDNS."""


class DatabaseError(SvcdnsError):
    """Raised if a file is no database, or if it is damaged."""


class Database:
    """A database in memory."""

    def __init__(self, data: bytes) -> None:
        """`data` is the content of the file. Raises DatabaseError."""
        at = data.rfind(MARKER)
        if at < 0:
            raise DatabaseError("error opening database: invalid MaxMind DB file")
        about, _ = _Section(data, at + len(MARKER), len(data)).value(0)
        if not isinstance(about, dict):
            raise DatabaseError("error opening database: the metadata is no map")
        self.kind = str(about.get("database_type", ""))
        """The type of the database, such as `GeoLite2-City`."""
        self.has_city, self.has_asn = self.kind in _CITY, self.kind in _ASN
        numbers = [about.get(name) for name in ("node_count", "record_size", "ip_version")]
        self._nodes, self._bits, version = (number if isinstance(number, int) else -1 for number in numbers)
        self._data, tree = data, self._nodes * self._bits // 4
        if self._bits not in (24, 28, 32) or version not in (4, 6) or not 0 <= tree <= at - _SEPARATOR:
            raise DatabaseError("error opening database: the metadata does not fit the file")
        self._section = _Section(data, tree + _SEPARATOR, at)
        self._ipv4: int | None = 0 if version == 4 else None

    def find(self, address: str) -> Any:
        """Returns the data of the network that contains an address; an empty map if there is none.

        Raises DatabaseError if the database is damaged.
        """
        octets = packed(address.partition("%")[0])
        if octets is None:
            return {}
        if len(octets) == 16 and octets.startswith(b"\0" * 10 + b"\xff\xff"):
            octets = octets[12:]
        if len(octets) == 16 and self._ipv4 == 0:
            return {}  # a tree for IPv4 only
        node = self._walk(0 if len(octets) == 16 else self._ipv4_root(), octets)
        if node <= self._nodes:
            return {}
        return self._section.value(node - self._nodes - _SEPARATOR)[0]

    def _ipv4_root(self) -> int:
        """Returns the node at which IPv4 addresses begin; in a tree for IPv6, they are the network ::/96."""
        if self._ipv4 is None:
            self._ipv4 = self._walk(0, bytes(12))
        return self._ipv4

    def _walk(self, node: int, octets: bytes) -> int:
        for octet in octets:
            for shift in range(7, -1, -1):
                if node >= self._nodes:
                    return node
                node = self._child(node, octet >> shift & 1)
        return node

    def _child(self, node: int, bit: int) -> int:
        data, size = self._data, self._bits // 4
        at = node * size
        if self._bits == 28:
            middle = data[at + 3]
            if bit:
                return (middle & 0x0F) << 24 | int.from_bytes(data[at + 4 : at + 7], "big")
            return (middle & 0xF0) << 20 | int.from_bytes(data[at : at + 3], "big")
        half = size // 2
        return int.from_bytes(data[at + bit * half : at + (bit + 1) * half], "big")


class _Section:
    """A section of encoded values. Pointers are relative to its start."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._start, self._end = data, start, end

    def value(self, at: int) -> tuple[Any, int]:
        """Returns the value at an offset in the section, and the offset after it. Raises DatabaseError."""
        try:
            value, end = self._value(self._start + at, 0)
        except (IndexError, UnicodeDecodeError, struct.error, TypeError) as error:
            raise DatabaseError(f"the database is damaged: {error}") from error
        return value, end - self._start

    def _take(self, at: int, size: int) -> bytes:
        if not self._start <= at <= at + size <= self._end:
            raise DatabaseError("the database is damaged: an offset is outside of the data")
        return self._data[at : at + size]

    def _value(self, at: int, depth: int) -> tuple[Any, int]:
        if depth > _MAX_DEPTH:
            raise DatabaseError("the database is damaged: the data is nested too deep")
        control = self._take(at, 1)[0]
        at += 1
        kind = control >> 5
        if kind == 1:
            target, at = self._pointer(control, at)
            return self._value(self._start + target, depth + 1)[0], at
        if kind == 0:
            kind = 7 + self._take(at, 1)[0]
            at += 1
        size = control & 31
        if size > 28:
            more = size - 28
            size = (29, 285, 65821)[more - 1] + int.from_bytes(self._take(at, more), "big")
            at += more
        if kind == 7:
            return self._map(at, size, depth)
        if kind == 11:
            return self._list(at, size, depth)
        if kind == 14:
            return bool(size), at
        return self._scalar(kind, self._take(at, size)), at + size

    @staticmethod
    def _scalar(kind: int, octets: bytes) -> Any:
        match kind:
            case 2:
                return octets.decode()
            case 3:
                return struct.unpack(">d", octets)[0]
            case 15:
                return struct.unpack(">f", octets)[0]
            case 8:
                return int.from_bytes(octets, "big", signed=len(octets) == 4)
            case 5 | 6 | 9 | 10:
                return int.from_bytes(octets, "big")
        return octets

    def _pointer(self, control: int, at: int) -> tuple[int, int]:
        size = (control >> 3 & 3) + 1
        octets = self._take(at, size)
        if size == 4:
            return int.from_bytes(octets, "big"), at + size
        return ((control & 7) << 8 * size) + int.from_bytes(octets, "big") + (0, 2048, 526336)[size - 1], at + size

    def _map(self, at: int, size: int, depth: int) -> tuple[dict[str, Any], int]:
        out: dict[str, Any] = {}
        for _ in range(size):
            key, at = self._value(at, depth + 1)
            out[key], at = self._value(at, depth + 1)
        return out, at

    def _list(self, at: int, size: int, depth: int) -> tuple[list[Any], int]:
        out: list[Any] = []
        for _ in range(size):
            item, at = self._value(at, depth + 1)
            out.append(item)
        return out, at
