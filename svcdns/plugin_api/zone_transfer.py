"""Whole zones for the plugin *transfer*: the result of the hook `Plugin.transfer(zone, serial)`.

`zone` is the query name in wire format and lower case. `serial` is the serial of an IXFR client, or 0 for AXFR (RFC
1995 §2, §4). The hook returns None if the plugin is not authoritative for the zone. The hook raises UnavailableError if
the plugin is authoritative, but has no content yet.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.plugin_api.environment import Block
from svcdns.wire.record import Record

RUN = 64
"""The number of objects that `in_order` sorts in one step."""

T = TypeVar("T")


class UnavailableError(SvcdnsError):
    """Raised if the plugin is authoritative for the zone, but has no content to send."""


class ZoneOffer(msgspec.Struct, frozen=True):
    """A zone to send. `soa` is its present SOA record.

    `records` yields portions of records of one version of the zone, from its SOA to the same SOA again. A portion takes
    less than 0.1 ms to make, and may be empty. If the client's serial is current, `records` is None, and only `soa` is
    sent. If `is_incremental` is true, the records are the differences from the client's version (RFC 1995 §4).
    """

    soa: Record
    records: Iterator[Iterable[Record]] | None
    is_incremental: bool = False


def has_transfer(block: Block) -> bool:
    """Returns True if the server block has the plugin *transfer*. Then zones keep their history."""
    return any(directive.name.text == "transfer" for directive in block.others)


def in_order(items: Sequence[T], key: Callable[[T], tuple[str, ...]]) -> Iterator[T | None]:
    """Yields the items in the order of `key`.

    Yields None after each step of sorting, so that the caller can do other work.
    """
    runs = []
    for at in range(0, len(items), RUN):
        runs.append(_used_up(sorted(items[at : at + RUN], key=key, reverse=True)))
        yield None
    yield from heapq.merge(*runs, key=key)


def _used_up(reverse: list[T]) -> Iterator[T]:
    """Yields the items of a list from the last to the first, and removes each item from the list."""
    while reverse:
        yield reverse.pop()
