"""Records the endpoints of headless Services over time, so that responses can be checked.

A response is valid if its addresses were all endpoints at some moment, from ALLOWED_LAG seconds before the query until
the response. During an outage, and until the server has received all changes, every state since the beginning of the
outage is valid.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field

from bench.cluster import Cluster

ALLOWED_LAG = 1.0
"""Seconds by which a response may lag behind the cluster."""

Addresses = frozenset[bytes]
"""Packed addresses: all addresses of a response."""


def packed(addresses: list[str]) -> Addresses:
    """Returns each address as 4 or 16 octets."""
    return frozenset(ipaddress.ip_address(address).packed for address in addresses)


@dataclass
class _Span:
    """The endpoints of a Service for a period of time.

    The period begins at the earliest possible time of its first change, and ends at the latest possible time of the
    next.
    """

    addresses: Addresses
    since: float = -math.inf
    until: float = math.inf


@dataclass
class Outage:
    """A period in which the server cannot receive changes. Times are in seconds on the monotonic clock.

    The outage begins at `since`. The cause of the outage ends at `restored`. At `until`, the server has received all
    changes.
    """

    since: float
    restored: float = 0.0
    until: float = math.inf


@dataclass
class EndpointHistory:
    """The endpoints of every headless Service, over time. Times are in seconds on the monotonic clock."""

    cluster: Cluster
    spans: dict[int, list[_Span]] = field(default_factory=dict)
    outages: list[Outage] = field(default_factory=list)

    def changed(self, number: int, address: str, begun: float, done: float) -> None:
        """Records a change of a Service's first endpoint. The request for the change ran from `begun` to `done`."""
        spans = self._of(number)
        spans[-1].until = done
        spans.append(_Span(packed([address, *self.cluster.pods(number)[1:]]), begun))
        del spans[:-_KEPT]

    def accepts(self, number: int, addresses: Addresses, sent: float, received: float) -> bool:
        """Returns True if a response with `addresses` is valid for the Service `number`.

        `sent` is the time of the query, and `received` the time of the response.
        """
        earliest = min(
            [
                sent - ALLOWED_LAG,
                *(
                    one.since - ALLOWED_LAG
                    for one in self.outages
                    if one.since <= received and sent <= one.until + ALLOWED_LAG
                ),
            ]
        )
        return any(
            span.addresses == addresses and span.since <= received and span.until >= earliest
            for span in self._of(number)
        )

    def _of(self, number: int) -> list[_Span]:
        if number not in self.spans:
            self.spans[number] = [_Span(packed(self.cluster.pods(number)))]
        return self.spans[number]


_KEPT = 1_000
"""Spans stored for each Service."""
