"""`rewrite edns0`: rules that set, replace, append and unset options of the query's OPT record.

A query without OPT gets one of 4096 octets as soon as such a rule looks at it, whether the rule applies or not, and so does its reply.
As in CoreDNS, `append` adds another option of its code where the data is fixed; where the data is computed it does nothing if there is one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from svcdns.plugin_api.query import Query
from svcdns.plugins.rewrite.query_rules import Asked, Responses
from svcdns.plugins.rewrite.response_rules import OptionReverted
from svcdns.wire import names
from svcdns.wire.record import Edns

NSID: Final = 3
SUBNET: Final = 8

ACTIONS: Final = ("set", "replace", "append", "unset")


class Data(Protocol):
    """What an option is filled with."""

    def __call__(self, query: Query) -> bytes | None:
        """The option's data, or None where it cannot be told."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same data always."""

    data: bytes

    def __call__(self, query: Query) -> bytes:  # noqa: ARG002 - always the same
        """The data."""
        return self.data


@dataclass(frozen=True, slots=True)
class Variable:
    """A fact about the question: one of VARIABLES, or a label of metadata, of which there is none."""

    name: str

    def __call__(self, query: Query) -> bytes | None:
        """Its octets: addresses and numbers as they are on the wire."""
        read = VARIABLES.get(self.name)
        return None if read is None else read(query)


@dataclass(frozen=True, slots=True)
class Subnet:
    """The client's network (RFC 7871 §6), with so many bits of an IPv4 or an IPv6 address."""

    bits4: int
    bits6: int

    def __call__(self, query: Query) -> bytes:
        """Family, prefix length, scope 0, and the octets that the prefix covers."""
        address = ipaddress.ip_address(_plain(query.client.address))
        bits, family = (self.bits4, 1) if address.version == 4 else (self.bits6, 2)
        network = ipaddress.ip_network((address, bits), strict=False)
        return family.to_bytes(2, "big") + bytes((bits, 0)) + network.network_address.packed[: (bits + 7) // 8]


def _plain(address: str) -> str:
    return address.partition("%")[0]


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(_plain(address)).packed


VARIABLES: Final[dict[str, Callable[[Query], bytes]]] = {
    "qname": lambda query: names.to_text(query.name).encode(),
    "qtype": lambda query: query.rtype.to_bytes(2, "big"),
    "client_ip": lambda query: _packed(query.client.address),
    "client_port": lambda query: query.client.port.to_bytes(2, "big"),
    "protocol": lambda query: query.client.protocol.encode(),
    "server_ip": lambda query: _packed(query.client.local_address),
    "server_port": lambda query: query.client.local_port.to_bytes(2, "big"),
}
_IN_EVERY_PACKET: Final = ("qname", "qtype", "protocol", "server_port")
"""Variables that are the same for equal packets of one listener."""


@dataclass(frozen=True, slots=True)
class OptionRule:
    """A rule for the options of one code. `revert` undoes in the reply what it did. `local` has the code echoed to clients."""

    stop: bool
    action: str
    code: int
    data: Data
    revert: bool = False
    local: bool = False

    def apply(self, asked: Asked) -> Responses | None:
        """Changes the query's OPT."""
        data = self.data(asked.query)
        if data is None:
            return None
        edns = asked.query.edns or Edns(4096)
        asked.query.edns = edns
        options = edns.options
        at = next((at for at, (code, _) in enumerate(options) if code == self.code), None)
        if self.action == "unset":
            self._put(asked, tuple(option for option in options if option[0] != self.code))
            return ()
        if at is not None and self.action in ("set", "replace"):
            self._put(asked, (*options[:at], (self.code, data), *options[at + 1 :]))
            return (OptionReverted(self.code, options[at][1]),) if self.revert else ()
        if self.action == "replace" or (at is not None and not isinstance(self.data, Fixed)):
            return None
        self._put(asked, (*options, (self.code, data)))
        return (OptionReverted(self.code),) if self.revert else ()

    def _put(self, asked: Asked, options: tuple[tuple[int, bytes], ...]) -> None:
        assert asked.query.edns is not None
        asked.query.edns = msgspec.structs.replace(asked.query.edns, options=options)
        if self.action != "unset" and self._is_personal():
            asked.personal = True

    def _is_personal(self) -> bool:
        return isinstance(self.data, Subnet) or (isinstance(self.data, Variable) and self.data.name not in _IN_EVERY_PACKET)
