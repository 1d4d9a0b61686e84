"""Varying the order of address records, so that clients that take the first one spread over all.

The order inside a section is CNAMEs first, then other types as they stand, then addresses, then MX, as CoreDNS's `loadbalance` sends
them (RFC 1794 asks only that the order varies). The same set in `n` rotations puts each record first equally often.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from svcdns.wire.codes import Type
from svcdns.wire.reply import Record, Reply

_ADDRESSES: Final = (Type.A, Type.AAAA)
Section = tuple[Record, ...]


def in_order(records: Section) -> Section:
    """CNAMEs, other types, addresses, MX; each kind as it stood."""
    if len({r.rtype for r in records}) < 2:
        return records
    cnames = [r for r in records if r.rtype == Type.CNAME]
    addresses = [r for r in records if r.rtype in _ADDRESSES]
    exchanges = [r for r in records if r.rtype == Type.MX]
    rest = [r for r in records if r.rtype not in (Type.CNAME, Type.MX, *_ADDRESSES)]
    return (*cnames, *rest, *addresses, *exchanges)


def shuffled(records: Section, random: Random) -> Section:
    """The section in order, with its addresses and its MX records each in random order."""
    return _arranged(records, lambda group: random.sample(group, len(group)))


def rotations(reply: Reply, most: int, random: Random) -> tuple[Reply, ...]:
    """The reply in up to `most` variants: one random order, turned step by step. One variant where nothing can vary."""
    sections = [shuffled(s, random) for s in (reply.answer, reply.authority, reply.additional)]
    widest = max((max(_count(s, _ADDRESSES), _count(s, (Type.MX,))) for s in sections), default=0)
    variants = min(widest, most)
    if variants < 2:
        return (_with(reply, sections),)
    return tuple(_with(reply, [_turned(s, number, variants) for s in sections]) for number in range(variants))


def _with(reply: Reply, sections: list[Section]) -> Reply:
    return msgspec.structs.replace(reply, answer=sections[0], authority=sections[1], additional=sections[2])


def _count(records: Section, types: tuple[int, ...]) -> int:
    return sum(1 for r in records if r.rtype in types)


def _turned(records: Section, number: int, variants: int) -> Section:
    def turn(group: list[Record]) -> list[Record]:
        cut = number * len(group) // variants
        return group[cut:] + group[:cut]

    return _arranged(records, turn)


def _arranged(records: Section, arrange: Callable[[list[Record]], list[Record]]) -> Section:
    if len(records) < 2:
        return records
    ordered = in_order(records)
    addresses = [r for r in ordered if r.rtype in _ADDRESSES]
    exchanges = [r for r in ordered if r.rtype == Type.MX]
    head = len(ordered) - len(addresses) - len(exchanges)
    return (*ordered[:head], *arrange(addresses), *arrange(exchanges))
