"""What each question may be answered with at each moment, told by whoever changes the cluster: the measure that every answer is held to.

An answer is right if it was the whole truth at some moment from LATE seconds before the question left until the answer came. While
a server cannot learn what changes, and until it has learnt it all afterwards, everything counts that was so since the trouble began: how
long that takes is a figure of its own.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field

from bench.cluster import Cluster

LATE = 1.0
"""Seconds that an answer may be behind the cluster."""

Addresses = frozenset[bytes]
"""Packed addresses, all that an answer has."""


def packed(addresses: list[str]) -> Addresses:
    """The octets of addresses."""
    return frozenset(ipaddress.ip_address(address).packed for address in addresses)


@dataclass
class _Span:
    """What a Service's endpoints were, and when that was so at most."""

    addresses: Addresses
    since: float = -math.inf
    until: float = math.inf


@dataclass
class Trouble:
    """A time in which a server cannot learn what changes; it is `well` again before it has learnt all, which is at `until`."""

    since: float
    well: float = 0.0
    until: float = math.inf


@dataclass
class Truth:
    """The endpoints of every headless Service over time. Times are seconds of one monotonic clock."""

    cluster: Cluster
    spans: dict[int, list[_Span]] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)

    def changed(self, number: int, address: str, begun: float, done: float) -> None:
        """A Service's first endpoint was moved to an address by a request of that duration."""
        spans = self._of(number)
        spans[-1].until = done
        spans.append(_Span(packed([address, *self.cluster.pods(number)[1:]]), begun))
        del spans[:-_KEPT]

    def right(self, number: int, addresses: Addresses, sent: float, came: float) -> bool:
        """Whether these were a Service's endpoints at a moment that counts for a question of that time."""
        earliest = min([sent - LATE, *(one.since - LATE for one in self.troubles if one.since <= came and sent <= one.until + LATE)])
        return any(span.addresses == addresses and span.since <= came and span.until >= earliest for span in self._of(number))

    def _of(self, number: int) -> list[_Span]:
        if number not in self.spans:
            self.spans[number] = [_Span(packed(self.cluster.pods(number)))]
        return self.spans[number]


_KEPT = 1_000
"""Spans kept of each Service."""
