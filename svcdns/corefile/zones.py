"""Zone names of a Corefile: made lower-case and absolute, and CIDRs turned into reverse zones
(docs/behaviour/corefile.md#server-block-keys)."""

from __future__ import annotations

import ipaddress

from svcdns.corefile.errors import ZoneError
from svcdns.wire import names
from svcdns.wire.errors import NameTextError


def normalise_zone(text: str) -> tuple[str, ...]:
    """The zones that a zone argument means: one for a name, one or several reverse zones for a
    CIDR. Raises ZoneError.
    """
    if "/" in text:
        return reverse_zones(text)
    try:
        return (names.to_text(names.from_text(text).lower()),)
    except NameTextError as error:
        raise ZoneError(f"'{text}' is not a domain name: {error}") from error


def reverse_zones(text: str) -> tuple[str, ...]:
    """The zones under in-addr.arpa or ip6.arpa that cover a network; host bits are masked.

    A prefix that is not on a label boundary (8 bits, 4 for IPv6) gives every zone of the next boundary. Raises
    ZoneError.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ZoneError(f"invalid CIDR {text}: {error}") from error
    step = 8 if network.version == 4 else 4
    boundary = -(-network.prefixlen // step) * step
    if network.version == 6 and text.lstrip("0").startswith(":"):
        raise ZoneError(f"invalid CIDR {text}")
    labels = boundary // step
    return tuple(_reverse_name(subnet.network_address, labels) for subnet in network.subnets(new_prefix=boundary))


def _reverse_name(address: ipaddress.IPv4Address | ipaddress.IPv6Address, labels: int) -> str:
    digits = address.exploded.split(".") if address.version == 4 else list(address.exploded.replace(":", ""))
    origin = "in-addr.arpa." if address.version == 4 else "ip6.arpa."
    return "".join(f"{digit}." for digit in reversed(digits[:labels])) + origin


def is_reverse(zone: str) -> bool:
    """True for what is below the reverse trees; the two trees themselves count as other zones, as in CoreDNS."""
    return zone.endswith((".in-addr.arpa.", ".ip6.arpa."))
