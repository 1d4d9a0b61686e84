"""Parses the upstreams of a `forward` directive: addresses, hosts and files, with or without TLS.

See docs/behaviour/plugins.md#forward.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Token
from svcdns.corefile.errors import CorefileError
from svcdns.upstream.query import Address
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

DNS_PORT: Final = 53
TLS_PORT: Final = 853
HTTPS_PORT: Final = 443
ENCRYPTED: Final = {"tls": TLS_PORT, "https": HTTPS_PORT, "quic": TLS_PORT}
"""The ports of encrypted upstreams without a port in the Corefile, by scheme (RFC 9250 §4.1.1)."""
NO_PORT: Final = 0
"""The port of an upstream whose port in the Corefile is unusable. Each query to this port fails at once."""


@dataclass(frozen=True, slots=True)
class NamedUpstream:
    """An upstream written as a name: the path of a file in the format of resolv.conf(5), or a host and a port.

    If the file `path` exists, its name servers are the upstreams. Otherwise `host` is the upstream; an empty `host`
    means that the text can only be a path. If `server_name` is not empty, the host is used over TLS, and its
    certificate must have this name. The `transport` is then `tls`, `https` or `quic`.
    """

    path: str
    host: str = ""
    port: int = DNS_PORT
    server_name: str = ""
    transport: str = "tls"


@dataclass(frozen=True, slots=True)
class TlsUpstream:
    """An upstream used over the encrypted transport `tls`, `https` or `quic`.

    The upstream's certificate must have the name `server_name`. If `server_name` is empty, the certificate must have
    the upstream's address.
    """

    address: Address
    server_name: str = ""
    transport: str = "tls"


def upstream(word: Token) -> Address | NamedUpstream | TlsUpstream:
    """Parses an upstream, which is one of the words after FROM in the directive. Raises CorefileError."""
    scheme, separator, text = word.text.rpartition("://")
    if scheme in ENCRYPTED:
        if scheme == "https" and "/" in text:
            error = "paths are not allowed in HTTPS upstream addresses (the /dns-query path is used by default)"
            raise CorefileError(word.position, f"{error}: {word.text}")
        return _encrypted_upstream(word, scheme, text)
    if separator and scheme != "dns":
        raise CorefileError(
            word.position, f"'{scheme}' is not supported as a destination protocol in forward: {word.text}"
        )
    found = address(text, DNS_PORT)
    if found is not None:
        return found
    if "/" in text:
        return NamedUpstream(text)
    host_port = _host(text, DNS_PORT)
    if host_port is None:
        raise CorefileError(word.position, f"not an IP address, file, or valid domain: '{word.text}'")
    return NamedUpstream(text, *host_port)


def port_warnings(word: Token) -> tuple[str, ...]:
    """Returns log lines about a port that cannot be used. As in CoreDNS, such a port is no error."""
    found = upstream(word)
    port = (
        found.address[1]
        if isinstance(found, TlsUpstream)
        else found.port
        if isinstance(found, NamedUpstream)
        else found[1]
    )
    if port != NO_PORT:
        return ()
    text = f"the port of '{word.text}' is not a number from 1 to 65535, so this server answers no query"
    return (arguments.warning(word.position, text),)


def _encrypted_upstream(word: Token, scheme: str, text: str) -> NamedUpstream | TlsUpstream:
    """Parses an upstream in the form `tls://HOST%NAME:PORT`, where `%NAME` and `:PORT` are optional.

    HOST is an IP address or a host name. NAME is the name that the certificate must have. `%NAME` may also be inside
    the brackets of an IPv6 address.
    """
    before, percent, name = text.partition("%")
    default = ENCRYPTED[scheme]
    port = ""
    if percent and before.startswith("[") and not before.endswith("]"):
        name, bracket, port = name.partition("]")
        before += bracket
    elif percent:
        name, colon, port = name.partition(":")
        port = colon + port
    found = address(before + port, default)
    host_port = _host(before + port, default) if "/" not in text else None
    if (percent and not is_name(name)) or (found is None and host_port is None):
        raise CorefileError(
            word.position,
            f"not an IP address or host, with a name to verify: '{word.text}'; {scheme}://IP%NAME:PORT was expected",
        )
    if found is not None:
        return TlsUpstream(found, name, scheme)
    assert host_port is not None
    return NamedUpstream(word.text, *host_port, server_name=name or host_port[0], transport=scheme)


def _host(text: str, default: int) -> Address | None:
    """Parses `host` or `host:port`. Returns None for any other text. The port may be NO_PORT."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return (text, default) if is_name(text) else None
    return (host, _port(port)) if is_name(host) and (_port(port) != NO_PORT or ":" not in host) else None


def _port(text: str) -> int:
    """Returns the port number in a text, or NO_PORT if the text is not a port number."""
    port = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else NO_PORT
    return port if port < 65536 else NO_PORT


def is_name(text: str) -> bool:
    """Returns True if the text is a host name."""
    try:
        return bool(text) and bool(names.from_text(text))
    except NameTextError:
        return False


def address(text: str, default: int) -> Address | None:
    """Parses `IP`, `IP:port`, `[IPv6]` or `[IPv6]:port`. Returns None for any other text. The port may be NO_PORT."""
    if is_address(text):
        return text, default
    host, _, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, port = text, str(default)
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    found = _port(port)
    return None if not is_address(host) or (found == NO_PORT and ":" in host and not bracketed) else (host, found)


def is_address(text: str) -> bool:
    """Returns True if the text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
