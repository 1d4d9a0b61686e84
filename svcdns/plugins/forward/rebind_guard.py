"""The rebind guard: counts or removes upstream records that point to services inside the cluster ("DNS rebinding").

These are aliases for names in a zone that this server answers itself, and private addresses. An exemption exists for
names in a zone that the server block, FROM or `rebind_allow` states.
"""

from __future__ import annotations

import re
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
_LAST_HINT: Final = max(_HINTS)
_SERVICE_BINDINGS: Final = (Type.SVCB, Type.HTTPS)


PRIVATE_NETWORKS: Final = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "240.0.0.0/4",
)  # fmt: skip
"""The IPv4 networks that are not on the Internet (RFC 1918, RFC 6890), apart from those for documentation."""


def _pattern(network: str) -> bytes:
    """Returns a regular expression for the four octets of an address in an IPv4 network."""
    address, length = network.split("/")
    octets, bits = list(map(int, address.split("."))), int(length)
    out = b""
    for number, octet in enumerate(octets):
        free = min(8, max(0, 8 * (number + 1) - bits))
        out += b"[%b-%b]" % tuple(re.escape(bytes((one,))) for one in (octet, octet | (1 << free) - 1))
    return out


_V4: Final = b"(?:" + b"|".join(map(_pattern, PRIVATE_NETWORKS)) + b")"
_V6: Final = (
    rb"(?:[\xfc\xfd].{15}|\xfe[\x80-\xff].{14}"  # RFC 4193; RFC 4291 §2.5.6 and RFC 3879
    rb"|(?:\0{10}\xff\xff|\0d\xff\x9b\0{8}|\0{12})"
    + _V4  # RFC 4291 §2.5.5; RFC 6052 §2.1; :: and ::1 are here, too
    + rb"|\0d\xff\x9b\0\x01.{10})"  # RFC 8215
)
_PRIVATE: Final = {
    4: re.compile(rb"(?:.{4})*?" + _V4, re.DOTALL),
    16: re.compile(rb"(?:.{16})*?" + _V6, re.DOTALL),
}
"""By the number of octets of an address: finds a private address among adjacent addresses."""


def is_private(addresses: bytes, size: int) -> bool:
    """Returns True if one of the addresses is not used on the Internet. `size` is the number of octets of each address.

    An IPv6 address that embeds a private IPv4 address is private, too (RFC 4291 §2.5.5, RFC 6052).
    """
    return _PRIVATE[size].match(addresses) is not None


class RebindGuard:
    """Checks the replies to the queries of one forward rule.

    If `blocks` is true, the guard removes records, otherwise it only counts them. If `checks_addresses` is true, it
    also checks for private addresses.
    """

    def __init__(self, rule: Rule, own_zones: Callable[[], tuple[bytes, ...]], cells: Cells) -> None:
        """`own_zones` returns the zones that this server answers itself. The function is called at the first reply."""
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
            private = sum(is_private(data[end - simple.size + 12 : end], simple.size - 12) for end in ends)
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
        aliases = private = 0
        kept: list[tuple[Record, ...]] = []
        for section in (message.answer, message.additional):
            rest = []
            for record in section:
                is_alias = self._is_alias(record, key)
                is_private = self.checks_addresses and self._has_private(record)
                aliases += is_alias
                private += is_private
                if not is_alias and not is_private:
                    rest.append(record)
            kept.append(tuple(rest))
        if not aliases and not private:
            return False
        self._count(source, aliases, private)
        if self.blocks:
            message.answer, message.additional = kept
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

    def _has_private(self, record: Record) -> bool:
        if record.rclass != Class.IN:
            return False
        if record.rtype in ADDRESS_SIZES:
            return is_private(record.rdata, len(record.rdata))
        return record.rtype in _SERVICE_BINDINGS and _has_private_hint(record.rdata)


def _has_private_hint(rdata: bytes) -> bool:
    """Returns True if a SVCB or HTTPS record has a private address in its parameters.

    The keys of the parameters must be in ascending order.
    """
    _, at = names.read_name(rdata, 2)
    key = 0
    while at < len(rdata) and key < _LAST_HINT:
        key, length = int.from_bytes(rdata[at : at + 2], "big"), int.from_bytes(rdata[at + 2 : at + 4], "big")
        at += 4 + length
        size = _HINTS.get(key)
        if size is not None and is_private(rdata[at - length : at], size):
            return True
    return False


def rebind_guard(rule: Rule, environment: Environment, cells: Cells) -> RebindGuard | None:
    """Returns the guard for one `forward` directive, or None if its option `rebind` is `off`."""
    return None if rule.rebind == "off" else RebindGuard(rule, environment.own_zones, cells)
