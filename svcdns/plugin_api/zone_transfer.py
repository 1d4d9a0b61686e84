"""Whole zones for the plugin *transfer*: what the hook `Plugin.transfer(zone, serial)` of a plugin with zones returns.

`zone` is the query name as a lowered wire name; `serial` is the serial of an IXFR client, 0 for AXFR (RFC 1995 §2, §4).
The hook returns None if the plugin is not authoritative for the zone. It raises UnavailableError if it is, and has no
content to send.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.wire.record import Record

RUN = 64
"""Objects that `in_order` sorts in one step."""

T = TypeVar("T")


class UnavailableError(SvcdnsError):
    """The plugin is authoritative for the zone, and has no content to send."""


class ZoneOffer(msgspec.Struct, frozen=True):
    """A zone to send. `soa` is its SOA record now.

    `records` yields all records of one version of the zone, from its SOA to the same SOA again, in portions that take
    well under 0.1 ms to make and may be empty. It is None if the client's serial is current: then `soa` is the whole
    answer.
    """

    soa: Record
    records: Iterator[Iterable[Record]] | None


def serial_of(soa: Record) -> int:
    """The serial in an SOA record (RFC 1035 §3.3.13)."""
    return int.from_bytes(soa.rdata[-20:-16], "big")


def in_order(items: Sequence[T], key: Callable[[T], tuple[str, ...]]) -> Iterator[T | None]:
    """Yields the items in order, and None after each step of sorting, so that the caller can do
    other work in between.
    """
    runs = []
    for at in range(0, len(items), RUN):
        runs.append(_used_up(sorted(items[at : at + RUN], key=key, reverse=True)))
        yield None
    yield from heapq.merge(*runs, key=key)


def _used_up(reverse: list[T]) -> Iterator[T]:
    """The items from last to first, each let go of when it was taken: to let go of all at the end takes as long as to
    make them.
    """
    while reverse:
        yield reverse.pop()
