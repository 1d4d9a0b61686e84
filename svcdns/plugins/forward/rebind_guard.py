"""The rebind guard: counts or removes upstream records that point to services inside the cluster ("DNS rebinding").

These are aliases for names in a zone that this server answers itself, and private addresses. An exemption exists for
names in a zone that the server block, FROM or `rebind_allow` states.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Final

from svcdns.plugin_api.environment import Environment
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.options import Rule
from svcdns.upstream.relevance import remove_unrelated_records
from svcdns.wire import names
from svcdns.wire.codes import Class, Type
from svcdns.wire.message import ADDRESS_SIZES, Message
from svcdns.wire.record import Record
from svcdns.wire.simple_reply import SimpleReply
from svcdns.wire.targets import target

_HINTS: Final = {4: 4, 6: 16}
"""The parameters `ipv4hint` and `ipv6hint` of SVCB and HTTPS records, and the octets of an address (RFC 9460 §7.3)."""
_SERVICE_BINDINGS: Final = (Type.SVCB, Type.HTTPS)


def _network(text: str) -> tuple[int, int]:
    """Returns the mask and the first address of an IPv4 network as numbers."""
    address, length = text.split("/")
    value = int.from_bytes(bytes(map(int, address.split("."))), "big")
    return 0xFFFFFFFF << 32 - int(length) & 0xFFFFFFFF, value


PRIVATE_NETWORKS: Final = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "240.0.0.0/4",
)  # fmt: skip
"""The IPv4 networks that are not on the Internet (RFC 1918, RFC 6890), apart from those for documentation."""
_NETWORKS: Final = tuple(map(_network, PRIVATE_NETWORKS))
_MAPPED: Final = bytes(10) + b"\xff\xff"
_TRANSLATED: Final = bytes.fromhex("0064ff9b") + bytes(8)
"""The well-known prefix of NAT64 (RFC 6052 §2.1)."""
_LOCAL_TRANSLATED: Final = bytes.fromhex("0064ff9b0001")
"""The prefix of NAT64 for local use (RFC 8215)."""


def is_private(address: bytes) -> bool:
    """Returns True for an address that is not used on the Internet. `address` has 4 or 16 octets.

    An IPv6 address that embeds a private IPv4 address is private, too (RFC 4291 §2.5.5, RFC 6052).
    """
    if len(address) == 4:
        number = int.from_bytes(address, "big")
        return any(number & mask == network for mask, network in _NETWORKS)
    first = address[0] << 8 | address[1]
    if first & 0xFE00 == 0xFC00 or first & 0xFF80 == 0xFE80:  # RFC 4193; RFC 4291 §2.5.6 and RFC 3879
        return True
    head = address[:12]
    if head in (_MAPPED, _TRANSLATED, bytes(12)):  # the last has ::, ::1 and RFC 4291 §2.5.5.1
        return is_private(address[12:])
    return address.startswith(_LOCAL_TRANSLATED)


class RebindGuard:
    """Checks the replies to the queries of one forward rule.

    If `blocks` is true, the guard removes records, otherwise it only counts them. If `checks_addresses` is true, it
    also checks for private addresses.
    """

    def __init__(self, rule: Rule, own_zones: Callable[[], tuple[bytes, ...]], cells: Cells) -> None:
        """`own_zones` returns the zones that this server answers itself. It is called at the first reply."""
        self.blocks = rule.rebind == "block"
        self.checks_addresses, self._own_zones, self._cells = rule.rebind_private, own_zones, cells
        explicit = (names.from_text(zone).lower() for zone in (rule.zone, *rule.rebind_allow, *rule.block_zones))
        self._allowed = tuple(zone for zone in explicit if zone != names.ROOT)

    @cached_property
    def _zones(self) -> tuple[bytes, ...]:
        return self._own_zones()

    def may_pass(self, simple: SimpleReply, key: bytes, source: str) -> bool:
        """Returns True if a simple reply (only addresses or a denial) may be sent unchanged.

        Counts the reply's aliases into zones of this server, and its private addresses. `key` is the query name in
        lower case, and `source` is the label of the upstream.
        """
        if self._is_allowed(key):
            return True
        aliases = sum(self._leads_inside(name, key) for name in simple.aliases)
        private = 0
        if self.checks_addresses and simple.size:
            data = simple.packet
            ends = range(simple.addresses + simple.size, simple.end + 1, simple.size)
            private = sum(is_private(data[end - simple.size + 12 : end]) for end in ends)
        if self.blocks and (aliases or private):
            return False
        self._count(source, aliases, private)
        return True

    def screen(self, message: Message, key: bytes, source: str) -> bool:
        """Counts aliases into zones of this server and, with the option `private`, private addresses.

        With the option `block`, removes these records and the targets' records. Returns True if a record was removed.
        """
        if self._is_allowed(key):
            return False
        sections = [message.answer, message.additional]
        aliases = sum(self._is_alias(record, key) for section in sections for record in section)
        private = (
            sum(self._is_private(record) for section in sections for record in section) if self.checks_addresses else 0
        )
        if not aliases and not private:
            return False
        self._count(source, aliases, private)
        if self.blocks:
            message.answer, message.additional = (
                tuple(
                    record
                    for record in section
                    if not self._is_alias(record, key) and not (self.checks_addresses and self._is_private(record))
                )
                for section in sections
            )
            remove_unrelated_records(message, key)
        return self.blocks

    def _count(self, source: str, aliases: int, private: int) -> None:
        if aliases:
            self._cells.rebind(source, "alias", aliases, blocked=self.blocks)
        if private:
            self._cells.rebind(source, "address", private, blocked=self.blocks)

    def _is_allowed(self, key: bytes) -> bool:
        return any(names.is_within(key, zone) for zone in self._allowed)

    def _leads_inside(self, name: bytes, key: bytes) -> bool:
        return name.endswith(self._zones) and any(
            names.is_within(name, zone) and not names.is_within(key, zone) for zone in self._zones
        )

    def _is_alias(self, record: Record, key: bytes) -> bool:
        """Returns True if the record is an alias for a name in a zone that this server answers itself.

        CNAME and DNAME records are aliases, and so are SVCB and HTTPS records of priority 0 (RFC 9460 §2.4.2).
        """
        if record.rtype in (Type.CNAME, Type.DNAME):
            return self._leads_inside(record.rdata.lower(), key)
        if record.rtype in _SERVICE_BINDINGS and record.rdata[:2] == b"\0\0":
            found = target(record)
            return found is not None and self._leads_inside(found, key)
        return False

    def _is_private(self, record: Record) -> bool:
        if record.rclass != Class.IN:
            return False
        if record.rtype in ADDRESS_SIZES:
            return is_private(record.rdata)
        return record.rtype in _SERVICE_BINDINGS and any(map(is_private, _hints(record.rdata)))


def _hints(rdata: bytes) -> list[bytes]:
    """Returns the address hints in the parameters of a SVCB or HTTPS record (RFC 9460 §7.3)."""
    found: list[bytes] = []
    _, at = names.read_name(rdata, 2)
    while at < len(rdata):
        key, length = int.from_bytes(rdata[at : at + 2], "big"), int.from_bytes(rdata[at + 2 : at + 4], "big")
        at += 4
        size = _HINTS.get(key)
        if size is not None:
            found += [rdata[one : one + size] for one in range(at, at + length - size + 1, size)]
        at += length
    return found


def rebind_guard(rule: Rule, environment: Environment, cells: Cells) -> RebindGuard | None:
    """Returns the guard of a forward rule, or None if the option `rebind` turns it off."""
    return None if rule.rebind == "off" else RebindGuard(rule, environment.own_zones, cells)
