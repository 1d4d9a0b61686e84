"""In how many rotations (orders of its records) a load-balanced reply is encoded."""

from __future__ import annotations

from random import Random
from typing import Final

from svcdns.wire.codes import TC

ROTATIONS: Final = 32
"""The usual number of rotations (orders of the records) in which a load-balanced answer is encoded.

More rotations are made if truncation hides some of the records.
"""
MAX_ROTATIONS: Final = 64
MAX_ROTATED_OCTETS: Final = 128 << 10
_TRUNCATED: Final = TC >> 8

random: Final = Random()
"""Shuffles the records of replies before they are rotated."""


def variants(wire: bytes, widest: int) -> int:
    """Returns the number of record orders in which to encode a reply, so that each record comes first equally often.

    `wire` is the reply in one of the orders; `widest` is the greatest useful number of orders. A truncated reply gets
    more orders, if they are needed to include every record in one of them.
    """
    count = ROTATIONS
    if wire[2] & _TRUNCATED:
        shown = max(1, int.from_bytes(wire[6:8], "big"))
        count = min(MAX_ROTATIONS, max(ROTATIONS, -(-widest // shown)))
    return max(1, min(widest, count, MAX_ROTATED_OCTETS // len(wire)))
