"""Sets of IP networks, and whether an address is in one: for policies and preferences by address. Knows no options and
does no I/O.

An IPv4-mapped IPv6 address is the IPv4 address (RFC 4291 §2.5.5.2); a zone id (`%eth0`) does not count.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from svcdns.errors import SvcdnsError

_MAPPED: Final = bytes(10) + b"\xff\xff"


class NetworkTextError(SvcdnsError):
    """A text is no network in CIDR notation."""


def packed(address: str) -> bytes | None:
    """The octets of an address, 4 or 16; None for a text that is none."""
    text = address.partition("%")[0]
    try:
        found = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    return found[12:] if found.startswith(_MAPPED) and len(found) == 16 else found


@dataclass(frozen=True, slots=True)
class Network:
    """One network: the `size` of its addresses in octets, the number of bits behind the prefix, and the prefix as a
    number.
    """

    size: int
    shift: int
    prefix: int

    @classmethod
    def from_text(cls, text: str) -> Network:
        """The network of a CIDR; an address alone is a network of its own. Host bits are masked. Raises
        NetworkTextError.
        """
        _, slash, length = text.partition("/")
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise NetworkTextError(
                f"'{text}' is not a network; an address or CIDR such as 10.0.0.0/8 was expected"
            ) from None
        if slash and not length.isdecimal():
            raise NetworkTextError(f"'{text}' is not a network; a prefix length was expected behind the slash")
        shift = network.max_prefixlen - network.prefixlen
        return cls(network.max_prefixlen // 8, shift, int(network.network_address) >> shift)

    def __contains__(self, address: bytes) -> bool:
        """Whether the packed address lies in it."""
        return len(address) == self.size and int.from_bytes(address, "big") >> self.shift == self.prefix


class Networks:
    """Several networks; the work of a look-up grows with the number of their prefix lengths."""

    __slots__ = ("_by_length",)

    def __init__(self, networks: Iterable[Network]) -> None:
        """Any number of them."""
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            self._by_length.setdefault((network.size, network.shift), set()).add(network.prefix)

    def __contains__(self, address: bytes) -> bool:
        """Whether one of them holds the packed address."""
        number = int.from_bytes(address, "big")
        return any(
            len(address) == size and number >> shift in found for (size, shift), found in self._by_length.items()
        )
