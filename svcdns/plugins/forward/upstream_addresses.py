"""The upstreams of a `forward` line as they are written: addresses, hosts and files, in the clear or over TLS
(docs/behaviour/plugins.md#forward)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from svcdns.corefile.blocks import Token
from svcdns.corefile.errors import CorefileError
from svcdns.upstream.query import Address
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

DNS_PORT: Final = 53
TLS_PORT: Final = 853


@dataclass(frozen=True, slots=True)
class Named:
    """An upstream that is no address: the path of a file in the form of resolv.conf, or, if there is none, a host and a port.

    `host` is empty where the text can be nothing but a path. With `server_name`, which its certificate has to be for, it is a host to be
    asked over TLS.
    """

    path: str
    host: str = ""
    port: int = DNS_PORT
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Secured:
    """An upstream to be asked over TLS; `server_name` is what its certificate has to be for, its address if empty."""

    address: Address
    server_name: str = ""


def upstream(place: Token) -> Address | Named | Secured:
    """What that word behind FROM stands for. Raises CorefileError."""
    scheme, separator, text = place.text.rpartition("://")
    if scheme == "tls":
        return _secured(place, text)
    if scheme == "https":
        raise CorefileError(place.position, f"upstreams by {scheme}:// are not built yet; see docs/supported.md")
    if separator and scheme != "dns":
        raise CorefileError(place.position, f"'{scheme}' is not supported as a destination protocol in forward: {place.text}")
    found = address(text, DNS_PORT)
    if found is not None:
        return found
    if "/" in text:
        return Named(text)
    host_port = _host(text, DNS_PORT)
    if host_port is None:
        raise CorefileError(place.position, f"not an IP address, file, or valid domain: '{place.text}'")
    return Named(text, *host_port)


def _secured(place: Token, text: str) -> Named | Secured:
    """An upstream by `tls://`: IP or host, `%` and the name to verify, port; the brackets of an IPv6 address may hold the name too."""
    before, percent, name = text.partition("%")
    port = ""
    if percent and before.startswith("[") and not before.endswith("]"):
        name, bracket, port = name.partition("]")
        before += bracket
    elif percent:
        name, colon, port = name.partition(":")
        port = colon + port
    found = address(before + port, TLS_PORT)
    host_port = _host(before + port, TLS_PORT) if "/" not in text else None
    if (percent and not is_name(name)) or (found is None and host_port is None):
        raise CorefileError(
            place.position, f"not an IP address or host, with a name to verify: '{place.text}'; tls://IP%NAME:PORT was expected"
        )
    if found is not None:
        return Secured(found, name)
    assert host_port is not None
    return Named(place.text, *host_port, server_name=name or host_port[0])


def _host(text: str, default: int) -> Address | None:
    """Host name, or host:port."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return (text, default) if is_name(text) else None
    return (host, int(port)) if is_name(host) and port.isdecimal() and 0 < int(port) < 65536 else None


def is_name(text: str) -> bool:
    """Whether it is a host name."""
    try:
        return bool(text) and bool(names.from_text(text))
    except NameTextError:
        return False


def address(text: str, default: int) -> Address | None:
    """IP, IP:port, [IPv6], [IPv6]:port."""
    if is_address(text):
        return text, default
    host, _, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, port = text, str(default)
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return (host, int(port)) if port.isdecimal() and 0 < int(port) < 65536 and is_address(host) else None


def is_address(text: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
