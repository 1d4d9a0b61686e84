"""What a plugin that has whole zones offers to the plugin `transfer`, by a method `transfer(zone, serial)`.

`zone` is the name that was asked for, lowered wire bytes; `serial` is what an IXFR client has, 0 for AXFR (RFC 1995 §2, §4). The method
gives None where the plugin is not the zone's authority, and raises UnavailableError where it is, and the zone cannot be given.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.wire.record import Record

RUN = 64
"""Objects that `in_order` sorts at once."""

T = TypeVar("T")


class UnavailableError(SvcdnsError):
    """The zone is the plugin's, and not there to be given."""


class ZoneOffer(msgspec.Struct, frozen=True):
    """A zone to be sent. `soa` is that of now.

    `records` gives all records of one moment, from its SOA to the same SOA again, in portions that take far less than 0.1 ms to make, empty
    ones included. It is None where the client's serial is current, and `soa` all there is to say.
    """

    soa: Record
    records: Iterator[Iterable[Record]] | None


def serial_of(soa: Record) -> int:
    """The serial in an SOA record (RFC 1035 §3.3.13)."""
    return int.from_bytes(soa.rdata[-20:-16], "big")


def in_order(items: Sequence[T], key: Callable[[T], tuple[str, ...]]) -> Iterator[T | None]:
    """The items sorted, one by one; None for a moment of work without one, so that nobody waits for the whole sorting."""
    runs = []
    for at in range(0, len(items), RUN):
        runs.append(_used_up(sorted(items[at : at + RUN], key=key, reverse=True)))
        yield None
    yield from heapq.merge(*runs, key=key)


def _used_up(reverse: list[T]) -> Iterator[T]:
    """The items from last to first, each let go of when it was taken: to let go of all at the end takes as long as to make them."""
    while reverse:
        yield reverse.pop()
