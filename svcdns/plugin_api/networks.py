"""Sets of IP networks, and whether an address is in one of them. Does no I/O.

An IPv4-mapped IPv6 address is treated as the IPv4 address (RFC 4291 §2.5.5.2). A zone id (`%eth0`) is ignored.
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
    """Raised if a text is not a network in CIDR notation."""


def packed(address: str) -> bytes | None:
    """Returns the 4 or 16 octets of an address, or None if the text is not an IP address."""
    text = address.partition("%")[0]
    try:
        found = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    return found[12:] if found.startswith(_MAPPED) and len(found) == 16 else found


@dataclass(frozen=True, slots=True)
class Network:
    """An IP network.

    `size` is the length of its addresses in octets. `shift` is the number of bits after the prefix. `prefix` is the
    prefix as a number.
    """

    size: int
    shift: int
    prefix: int

    @classmethod
    def from_text(cls, text: str) -> Network:
        """Returns the network for a text in CIDR notation. Raises NetworkTextError.

        An address without a prefix length is a network of one address. Host bits are ignored.
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
        """Returns True if the address, as octets, is in the network."""
        return len(address) == self.size and int.from_bytes(address, "big") >> self.shift == self.prefix


class Networks:
    """A set of networks. The time of a look-up grows with the number of different prefix lengths."""

    __slots__ = ("_by_length",)

    def __init__(self, networks: Iterable[Network]) -> None:
        """`networks` may be empty."""
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            self._by_length.setdefault((network.size, network.shift), set()).add(network.prefix)

    def __contains__(self, address: bytes) -> bool:
        """Returns True if the address, as octets, is in one of the networks."""
        number = int.from_bytes(address, "big")
        return any(
            len(address) == size and number >> shift in found for (size, shift), found in self._by_length.items()
        )
