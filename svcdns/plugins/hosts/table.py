"""The entries of a hosts(5) file: addresses by name, and names by address.

A name such as `*.example.org` is a wildcard: it matches every name one label below `example.org` that has no entry.
There are no PTR records for a wildcard. Lines that do not begin with an address are ignored, and so are words that are
not names.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from svcdns.plugin_api.networks import packed
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import NameTextError

Entries = dict[bytes, list[bytes]]


class HostsTable(msgspec.Struct, frozen=True, array_like=True):
    """The addresses of each name, by address family, and the names of each address.

    Addresses and names are in file order, with duplicates. Names are wire names in lower case; addresses are packed.
    """

    ipv4: Entries = msgspec.field(default_factory=dict)
    ipv6: Entries = msgspec.field(default_factory=dict)
    reverse: Entries = msgspec.field(default_factory=dict)

    def addresses(self, key: bytes, rtype: int) -> list[bytes]:
        """Returns the addresses of a name for type A or AAAA.

        If the name has no entry with such an address, returns the addresses of the wildcard that matches the name.
        """
        entries = self.ipv4 if rtype == Type.A else self.ipv6
        found = entries.get(key)
        if found is None and len(key) > 1:
            found = entries.get(b"\x01*" + key[1 + key[0] :])
        return found or []

    def known(self) -> frozenset[bytes]:
        """Returns the names and wildcards that have an address of any family."""
        return frozenset(self.ipv4) | frozenset(self.ipv6)

    def __len__(self) -> int:
        """Returns the number of entries: name-to-address pairs plus address-to-name pairs."""
        return sum(len(found) for entries in (self.ipv4, self.ipv6, self.reverse) for found in entries.values())


def read(lines: Iterable[str], zones: tuple[str, ...], *, reverse: bool) -> HostsTable:
    """Parses lines into a table. Names outside `zones` are ignored.

    If `reverse` is false, the table has no names by address.
    """
    table = HostsTable()
    origins = [names.from_text(zone).lower() for zone in zones]
    for line in lines:
        words = line.partition("#")[0].split()
        address = packed(words[0]) if len(words) > 1 else None
        if address is None:
            continue
        for word in words[1:]:
            try:
                key = names.from_text(word).lower()
            except NameTextError:
                continue
            if not any(names.is_within(key, origin) for origin in origins):
                continue
            (table.ipv4 if len(address) == 4 else table.ipv6).setdefault(key, []).append(address)
            if reverse and not key.startswith(b"\x01*"):
                table.reverse.setdefault(address, []).append(key)
    return table
