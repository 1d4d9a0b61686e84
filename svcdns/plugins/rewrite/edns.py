"""The query rule `edns0`: sets, replaces, appends and removes options of the query's OPT record.

If a query has no OPT record, the rule adds one with a payload size of 4096 octets. The reply then has an OPT record,
too. As in CoreDNS, `append` with fixed data always adds an option. With computed data, `append` does nothing if the
query has an option with this code.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from svcdns.plugin_api.query import Query
from svcdns.plugins.rewrite.query_rules import QueryDraft, Responses
from svcdns.plugins.rewrite.response_rules import OptionRevert
from svcdns.wire import names
from svcdns.wire.record import Edns

ACTIONS: Final = ("set", "replace", "append", "unset")


class Data(Protocol):
    """A function that computes the data of an option."""

    def __call__(self, query: Query) -> bytes | None:
        """Returns the option's data for this query, or None if there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Option data that is written in the Corefile."""

    data: bytes

    def __call__(self, query: Query) -> bytes:  # noqa: ARG002 - the same for every query
        """Returns the data, which are the same for every query."""
        return self.data


@dataclass(frozen=True, slots=True)
class Variable:
    """Option data that is a property of the query: one of VARIABLES, or the label of metadata."""

    name: str

    def __call__(self, query: Query) -> bytes | None:
        """Returns the property of the query as option data. Addresses and numbers are in wire format.

        Returns the text of metadata as UTF-8, or None if the query has no metadata under the label.
        """
        read = VARIABLES.get(self.name)
        return (query.metadata(self.name).encode() or None) if read is None else read(query)


@dataclass(frozen=True, slots=True)
class Subnet:
    """The data of a Client Subnet option with the client's network (RFC 7871 §6).

    The prefix has `bits4` bits for an IPv4 address, and `bits6` bits for an IPv6 address.
    """

    bits4: int
    bits6: int

    def __call__(self, query: Query) -> bytes:
        """Returns the option's data: family, prefix length, scope 0, and the octets of the prefix."""
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
"""Variables that have the same value for all equal packets that a listener receives."""


@dataclass(frozen=True, slots=True)
class OptionRule:
    """A rule `rewrite edns0`, which changes the query's options with the code `code`.

    If `revert` is true, the change is undone in the reply. If `local` is true, the reply repeats the client's options
    with this code.
    """

    stop: bool
    action: str
    code: int
    data: Data
    revert: bool = False
    local: bool = False

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Changes the OPT record of the query.

        If the rule has `revert`, returns a response rule that undoes the change. Returns None if this rule does not
        apply to the query.
        """
        data = self.data(draft.query)
        if data is None:  # no metadata, which another client may have
            draft.per_client = True
            return None
        edns = draft.query.edns
        if edns is None:
            edns, draft.query.edns_added = Edns(4096), True
        draft.query.edns = edns
        options = edns.options
        at = next((at for at, (code, _) in enumerate(options) if code == self.code), None)
        if self.action == "unset":
            self._put(draft, tuple(option for option in options if option[0] != self.code))
            return ()
        if at is not None and self.action in ("set", "replace"):
            self._put(draft, (*options[:at], (self.code, data), *options[at + 1 :]))
            return (OptionRevert(self.code, options[at][1]),) if self.revert else ()
        if self.action == "replace" or (at is not None and not isinstance(self.data, Fixed)):
            return None
        self._put(draft, (*options, (self.code, data)))
        return (OptionRevert(self.code),) if self.revert else ()

    def _put(self, draft: QueryDraft, options: tuple[tuple[int, bytes], ...]) -> None:
        assert draft.query.edns is not None
        draft.query.edns = msgspec.structs.replace(draft.query.edns, options=options)
        if self.action != "unset" and self._is_per_client():
            draft.per_client = True

    def _is_per_client(self) -> bool:
        return isinstance(self.data, Subnet) or (
            isinstance(self.data, Variable) and self.data.name not in _IN_EVERY_PACKET
        )
