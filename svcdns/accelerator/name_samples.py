"""Samples of the queries that the program in the kernel answers (plugin *traffic*, docs/plugins/traffic.md).

The program counts the uses of each entry, and does not record clients. So these samples have no client address.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from svcdns.telemetry.query_samples import NO_CLIENT, Ring

RATE: Final = 15
"""The most samples of one call. The readers of sockets take up to twice as many in a second."""

_random: Final = Random()


class Used(NamedTuple):
    """An entry with uses since the last samples. `family` is 1 for IPv4 and 2 for IPv6."""

    key: bytes
    uses: int
    rcode: int
    family: int
    is_local: bool


def write_samples(ring: Ring, now: float, used: Sequence[Used], random: Random = _random) -> None:
    """Writes at most RATE samples of the uses, in proportion to their numbers. Call it once a second."""
    total = sum(one.uses for one in used)
    if not total:
        return
    gap = total / min(total, RATE)
    left = gap * random.random()
    for one in used:
        left -= one.uses
        while left < 0:
            ring.write(now, gap, one.rcode, NO_CLIENT[one.family], one.key, is_local=one.is_local)
            left += gap
