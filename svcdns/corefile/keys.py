"""Parses the keys of server blocks, `[SCHEME://]ZONE[:PORT]`, and checks that no two keys overlap.

Source: docs/behaviour/corefile.md#server-block-keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from svcdns.corefile.blocks import ServerBlock, ServerKey, Token
from svcdns.corefile.errors import CorefileError, ZoneError
from svcdns.corefile.transports import share_port
from svcdns.corefile.zones import normalise_name, normalise_zone

DEFAULT_PORTS: Final = {"dns": 53, "tls": 853, "quic": 853, "grpc": 443, "https": 443, "https3": 443}
_NUMBER: Final = re.compile(r"[+-]?[0-9]+")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PREFERRED: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?|\.")


def server_keys(token: Token, default_port: int, warnings: list[str]) -> tuple[ServerKey, ...]:
    """Returns the server keys for one word of a Corefile. A CIDR may have several.

    `default_port` is the port of plain-DNS keys without a port. Adds a text to `warnings` for an unusual zone name.
    """
    scheme, _, rest = token.text.rpartition("://")
    transport = scheme.lower() or "dns"
    if transport not in DEFAULT_PORTS:
        _warn(token, f"'{scheme}://' is no scheme that svcdns or CoreDNS has, so it belongs to the name", warnings)
        transport, rest = "dns", token.text
    zone, port = _split_port(rest, token, default_port if transport == "dns" else DEFAULT_PORTS[transport], warnings)
    try:
        zones = normalise_zone(zone)
    except ZoneError as error:
        raise CorefileError(token.position, str(error)) from error
    if not _PREFERRED.fullmatch(zone) and zones == normalise_name(zone):
        warnings.append(f'Warning: Domain "{zones[0]}" does not follow RFC1035 preferred syntax')
    return tuple(ServerKey(transport, name, port, token.position) for name in zones)


def _split_port(text: str, token: Token, default: int, warnings: list[str]) -> tuple[str, int]:
    zone, colon, digits = text.rpartition(":")
    if not colon:
        return text, default
    if not digits:
        raise CorefileError(token.position, f"expecting data after last colon: '{token.text}'")
    if not _NUMBER.fullmatch(digits):  # for example the colon of an IPv6 network
        if "/" not in digits and ":" not in zone:
            _warn(token, f"'{digits}' is not a port, so it belongs to the name; a number was expected", warnings)
        return text, default
    if not 0 <= int(digits) <= 65535:
        if ":" in zone:
            return text, default
        raise CorefileError(token.position, f"'{digits}' is not a port; a number up to 65535 was expected")
    return zone, int(digits)


def _warn(token: Token, text: str, warnings: list[str]) -> None:
    where = token.position
    warnings.append(f"{where.file}:{where.line}:{where.column} - {text}")


def check_overlap(
    blocks: Sequence[ServerBlock], hosts: Sequence[Sequence[str]], with_view: Collection[int] = ()
) -> None:
    """Raises CorefileError if two blocks serve the same zone on the same address and port.

    `hosts` has the addresses of each block; `("",)` means all addresses. Two transports on one port are
    also an error, except one over UDP and one over TCP.
    `with_view` are the numbers of the blocks with the plugin *view*. These may have the keys of other blocks.
    """
    taken: dict[tuple[str, str, int], dict[str, ServerKey]] = {}
    transports: dict[tuple[str, int], list[ServerKey]] = {}
    for number, (block, bound) in enumerate(zip(blocks, hosts, strict=True)):
        for key in block.keys:
            here = taken.setdefault((key.transport, key.zone, key.port), {})
            if number in with_view:
                here = dict.fromkeys(here.keys() - bound, key)
            shown = f"{key.transport}://{key.zone}:{key.port}"
            for host in bound:
                others = transports.setdefault((host, key.port), [])
                for first in others:
                    if not share_port(first.transport, key.transport):
                        text = f"port {key.port} serves {first.transport}:// at line {first.position.line} already"
                        raise CorefileError(key.position, f"cannot serve {shown} - {text}")
                others.append(key)
                if host in here:
                    raise CorefileError(
                        key.position, f"cannot serve {shown} - it is already defined at line {here[host].position.line}"
                    )
            if here and ("" in bound) != ("" in here):
                raise CorefileError(
                    key.position,
                    f"cannot serve {shown} - zone overlap listener capacity with a block that is (not) bound",
                )
            here.update(dict.fromkeys(bound, key))
