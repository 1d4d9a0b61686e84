"""Converts the zone arguments of a Corefile to zone names (docs/behaviour/corefile.md#server-block-keys)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from svcdns.corefile.errors import ZoneError
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

_SCHEMES: Final = ("tls://", "dns://", "quic://", "grpc://", "https3://", "https://", "unix://")
_PORT: Final = re.compile(r":[+-]?[0-9]+$")


def normalise_zone(text: str) -> tuple[str, ...]:
    """Returns the zones for one zone argument. Raises ZoneError.

    A name is one zone, and a CIDR is one or more reverse zones. `32/27.2.0.192.in-addr.arpa` is a name (RFC 2317 §4),
    and so is `10.0.0.0/33`.
    """
    return reverse_zones(text) if _is_network(text) else normalise_name(text)


def normalise_argument(text: str) -> tuple[str, ...]:
    """Returns the zones for an argument of a plugin. Raises ZoneError.

    Scheme and port of the argument are ignored.
    """
    zone = text.removeprefix(next((scheme for scheme in _SCHEMES if text.startswith(scheme)), ""))
    return normalise_zone(_PORT.sub("", zone))


def normalise_name(text: str) -> tuple[str, ...]:
    """Returns a domain name in lower case and absolute, as the only element. Raises ZoneError."""
    if not text:
        raise ZoneError("an empty word is no zone")
    try:
        return (names.to_text(names.from_text(text).lower()),)
    except NameTextError as error:
        raise ZoneError(f"'{text}' is not a domain name: {error}") from error


def reverse_zones(text: str) -> tuple[str, ...]:
    """Returns the zones under in-addr.arpa or ip6.arpa that cover a network. Raises ZoneError.

    Host bits are ignored. If the prefix ends inside a label, there is one zone for each value of this label in the
    network.
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


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return text.partition("/")[2].isdecimal()


def _reverse_name(address: ipaddress.IPv4Address | ipaddress.IPv6Address, labels: int) -> str:
    digits = address.exploded.split(".") if address.version == 4 else list(address.exploded.replace(":", ""))
    origin = "in-addr.arpa." if address.version == 4 else "ip6.arpa."
    return "".join(f"{digit}." for digit in reversed(digits[:labels])) + origin


def is_reverse(zone: str) -> bool:
    """Returns True if the zone is below in-addr.arpa or ip6.arpa. As in CoreDNS, returns False for these two zones."""
    return zone.endswith((".in-addr.arpa.", ".ip6.arpa."))
