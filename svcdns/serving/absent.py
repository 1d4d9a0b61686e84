"""Answers about names that are not there, without asking the chain for each: random names must not cost more than they are worth.

All names that one zone lacks get the same answer but for the question and for the offset that its zone has there. Such an answer is
compiled once; for the next such name the plugin that owns the zone only says that the name is missing (`Route.absent`). A route has this
where every plugin in front of that one treats all names of the zone alike.

Rule: an answer made here is, to the octet, the one that the chain would have given; whatever is in doubt goes to the chain.
"""

from __future__ import annotations

from typing import Final

import msgspec

from svcdns.chain.routing import Route
from svcdns.wire import names
from svcdns.wire.errors import FormError
from svcdns.wire.question import read_plain_name
from svcdns.wire.reply import Count

Shape = tuple[bytes, bytes, bytes, bytes]
"""What questions with the same answer have in common: flags and counts of the header, type and class, what follows, and the zone."""

PLAIN_OPT: Final = 11
"""Octets of an OPT record without options."""
_POINTERS: Final = 3
"""Names in a negative answer that end with the zone: the SOA's owner, its MNAME and its RNAME."""


class AbsentQuestion(msgspec.Struct, gc=False):
    """A question that may be about a name that is not there."""

    key: bytes
    rtype: int
    behind_name: int


class AbsentAnswer(msgspec.Struct, gc=False):
    """An answer for one shape. `pieces` are what stands between the pointers to the zone; `counts` is what each use adds."""

    head: bytes
    pieces: list[bytes]
    counts: tuple[Count, ...]
    route: Route

    def wire(self, packet: bytes, behind_name: int, zone: bytes) -> bytes:
        """The reply to a packet whose name ends before `behind_name`."""
        pointer = (0xC000 | behind_name - len(zone)).to_bytes(2, "big")
        return packet[:2] + self.head + packet[12 : behind_name + 4] + pointer.join(self.pieces)


def read(packet: bytes) -> AbsentQuestion | None:
    """The question of a plain query, None for any other packet."""
    if len(packet) < 17 or packet[2] & 0xF8 or packet[4:10] != b"\0\1\0\0\0\0":
        return None
    try:
        name, at = read_plain_name(packet)
    except FormError:
        return None
    if len(packet) - at - 4 != (PLAIN_OPT if packet[10:12] == b"\0\1" else 0):
        return None
    return AbsentQuestion(name.lower(), packet[at] << 8 | packet[at + 1], at)


def shape(packet: bytes, behind_name: int, zone: bytes) -> Shape:
    """The shape of such a question."""
    return packet[2:12], packet[behind_name : behind_name + 4], packet[behind_name + 4 :], zone


def compiled(wire: bytes, packet: bytes, behind_name: int, zone: bytes, counts: tuple[Count, ...], route: Route) -> AbsentAnswer | None:
    """The answer for a shape from one that the chain gave; None where it cannot be the answer for all names."""
    at = behind_name - len(zone)
    pieces = wire[behind_name + 4 :].split((0xC000 | at).to_bytes(2, "big"))
    if zone == names.ROOT or len(pieces) != _POINTERS + 1:
        return None
    made = AbsentAnswer(wire[2:12], pieces, counts, route)
    return made if made.wire(packet, behind_name, zone) == wire else None
