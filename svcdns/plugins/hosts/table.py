"""What a hosts file says: addresses by name, and names by address.

Format: an address and one or several names a line, `#` starts a comment; lines that begin with no address are passed over, as are names
that are none. A name `*.example.org` stands for every name one label below `example.org` that has no entry of its own, and has no
reverse entry.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from svcdns.plugin_api.networks import packed
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import NameTextError

Entries = dict[bytes, list[bytes]]


class Table(msgspec.Struct, frozen=True, array_like=True):
    """Lowered names to packed addresses, by family; packed addresses to lowered names. Both in file order, repeats included."""

    ipv4: Entries = msgspec.field(default_factory=dict)
    ipv6: Entries = msgspec.field(default_factory=dict)
    reverse: Entries = msgspec.field(default_factory=dict)

    def addresses(self, key: bytes, rtype: int) -> list[bytes]:
        """The addresses of a lowered name for type A or AAAA, those of the wildcard where it has none in that family."""
        entries = self.ipv4 if rtype == Type.A else self.ipv6
        found = entries.get(key)
        if found is None and len(key) > 1:
            found = entries.get(b"\x01*" + key[1 + key[0] :])
        return found or []

    def __len__(self) -> int:
        """Addresses of names, and names of addresses."""
        return sum(len(found) for entries in (self.ipv4, self.ipv6, self.reverse) for found in entries.values())


def read(lines: Iterable[str], zones: tuple[str, ...], *, reverse: bool) -> Table:
    """The table of these lines, of names in the zones alone. Without `reverse`, addresses have no names."""
    table = Table()
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
