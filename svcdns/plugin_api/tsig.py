"""What the plugin *tsig* sets for its block, and what the core tells it about a signed query (RFC 8945)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from svcdns.wire import names


@dataclass(frozen=True, slots=True)
class TsigRules:
    """The zones whose queries are verified, and the queries that must be signed.

    `zones` are wire names in lower case. Messages with a query type in `types` or an opcode in `opcodes` must be
    signed; None means all.
    """

    zones: tuple[bytes, ...]
    types: Collection[int] | None = frozenset()
    opcodes: Collection[int] | None = frozenset()

    def covers(self, key: bytes) -> bool:
        """Returns True if queries for a name (wire format, lower case) are verified."""
        return any(names.is_within(key, zone) for zone in self.zones)

    def requires(self, rtype: int, opcode: int) -> bool:
        """Returns True if messages of this query type, or messages with this opcode, must be signed."""
        return self.types is None or rtype in self.types or self.opcodes is None or opcode in self.opcodes
