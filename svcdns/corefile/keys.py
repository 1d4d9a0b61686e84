"""Server block keys: `[SCHEME://]ZONE[:PORT]` (docs/behaviour/corefile.md#server-block-keys), and the check
that no two of them overlap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from svcdns.corefile.blocks import ServerBlock, ServerKey, Token
from svcdns.corefile.errors import CorefileError, ZoneError
from svcdns.corefile.zones import normalise_zone

DEFAULT_PORTS: Final = {"dns": 53, "tls": 853, "quic": 853, "grpc": 443, "https": 443, "https3": 443}
_PREFERRED: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?)+|\.")


def server_keys(token: Token, default_port: int, warnings: list[str]) -> tuple[ServerKey, ...]:
    """The parsed keys of one word; a CIDR may give several. `default_port` is for keys of plain DNS without a port."""
    scheme, _, rest = token.text.rpartition("://")
    transport = scheme.lower() or "dns"
    if transport not in DEFAULT_PORTS:
        raise CorefileError(
            token.position, f"unknown scheme '{scheme}://'; one of {', '.join(DEFAULT_PORTS)} was expected"
        )
    zone, port = _split_port(rest, token, default_port if transport == "dns" else DEFAULT_PORTS[transport])
    try:
        zones = normalise_zone(zone)
    except ZoneError as error:
        raise CorefileError(token.position, str(error)) from error
    if "/" not in zone and not _PREFERRED.fullmatch(zone):
        warnings.append(f'Warning: Domain "{zones[0]}" does not follow RFC1035 preferred syntax')
    return tuple(ServerKey(transport, name, port, token.position) for name in zones)


def _split_port(text: str, token: Token, default: int) -> tuple[str, int]:
    zone, colon, digits = text.rpartition(":")
    if not colon:
        return text, default
    if not digits:
        raise CorefileError(token.position, f"expecting data after last colon: '{token.text}'")
    if "/" in digits:  # an IPv6 network without a port
        return text, default
    if not digits.isdecimal() or int(digits) > 65535:
        if ":" in zone:
            return text, default
        raise CorefileError(token.position, f"'{digits}' is not a port; a number up to 65535 was expected")
    return zone, int(digits)


def check_overlap(blocks: Sequence[ServerBlock], hosts: Sequence[Sequence[str]]) -> None:
    """Raises CorefileError for a zone that two blocks serve on the same address and port.

    `hosts` has the addresses that each block is bound to, `("",)` for all. A port with two transports is an error too,
    as both need its TCP port. Blocks with the plugin *view* are distinguished by their views, not here.
    """
    taken: dict[tuple[str, str, int], dict[str, ServerKey]] = {}
    transports: dict[tuple[str, int], ServerKey] = {}
    for block, bound in zip(blocks, hosts, strict=True):
        for key in block.keys:
            here = taken.setdefault((key.transport, key.zone, key.port), {})
            shown = f"{key.transport}://{key.zone}:{key.port}"
            for host in bound:
                first = transports.setdefault((host, key.port), key)
                if first.transport != key.transport:
                    text = f"cannot serve {shown} - port {key.port} serves {first.transport}:// at line {first.position.line} already"
                    raise CorefileError(key.position, text)
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
