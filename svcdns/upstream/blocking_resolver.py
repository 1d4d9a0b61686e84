"""Looks up the addresses of a host name, with the system's resolver or with given DNS servers.

The functions block. Only the control process calls them, in a thread.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Final

from svcdns.errors import SvcdnsError
from svcdns.upstream.query import (
    MAX_DATAGRAM,
    Address,
    Dropped,
    UpstreamQuery,
    address_text,
    as_message,
    random_id,
)
from svcdns.upstream.relevance import remove_unrelated_records
from svcdns.wire import names
from svcdns.wire.codes import RD, Class, Type
from svcdns.wire.message import Message

TIMEOUT: Final = 2.0
"""Seconds to wait for a server's reply to one query."""


class ResolveError(SvcdnsError):
    """Raised if a host name has no address, or if no server replied. The text of the error is the reason."""


def addresses_of(host: str, servers: Sequence[Address] = ()) -> list[str]:
    """Returns the IPv4 and IPv6 addresses of a host, without duplicates.

    Queries the DNS servers in `servers` one after the other. If `servers` is empty, uses the system's resolver.
    Raises ResolveError.
    """
    if not servers:
        return _from_system(host)
    failure = ""
    for server in servers:
        try:
            found = _addresses(host, Type.A, server)
        except OSError as error:
            failure = f": {address_text(server)}: {_reason(error)}"
            continue
        try:
            found += _addresses(host, Type.AAAA, server)
        except OSError as error:
            failure = f": {address_text(server)}: {_reason(error)}"
        if found:
            return list(dict.fromkeys(found))
    raise ResolveError(f"no addresses found for {host}{failure}")


def _from_system(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ResolveError(f"no addresses found for {host}: {_reason(error)}") from error
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


def _addresses(host: str, rtype: int, server: Address) -> list[str]:
    family = socket.AF_INET if rtype == Type.A else socket.AF_INET6
    name = names.from_text(host)
    message = _exchange(UpstreamQuery(name, rtype, Class.IN, RD), server)
    remove_unrelated_records(message, name.lower())
    return [socket.inet_ntop(family, record.rdata) for record in message.answer if record.rtype == rtype]


def _exchange(query: UpstreamQuery, server: Address) -> Message:
    """Sends a query over UDP and returns the server's reply. Raises OSError."""
    ident, deadline = random_id(), time.monotonic() + TIMEOUT
    with socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(server)
        sock.send(query.packet(ident))
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            packet = sock.recv(MAX_DATAGRAM)
            received = query.read(ident, packet)
            if not isinstance(received, Dropped):
                return as_message(received)
    raise TimeoutError


def _reason(error: OSError) -> str:
    return "i/o timeout" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
