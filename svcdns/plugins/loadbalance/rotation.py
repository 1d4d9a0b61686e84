"""Variants of a reply with its address records in different orders, so that clients spread over all addresses.

The order inside a section is CNAME records first, then other types as they come, then addresses, then MX, as CoreDNS's
`loadbalance` sends them (RFC 1794 asks only that the order varies). A reply is split into groups once, and joined again
for each variant.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import Final

import msgspec

from svcdns.plugin_api.networks import Network
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

_ADDRESSES: Final = (Type.A, Type.AAAA)
Section = tuple[Record, ...]
Group = tuple[list[Record], bool]
"""Records that stay together, and whether their order varies."""

WEIGHTED_VARIANTS: Final = 64
"""Variants of a weighted reply: enough to show the shares of the weights."""


def by_kind(records: Iterable[Record]) -> list[Group]:
    """The groups of a section: CNAME records, other types, addresses, MX."""
    cnames, rest, addresses, exchanges = _kinds(records)
    return [(cnames + rest, False), (addresses, True), (exchanges, True)]


def preferring(networks: Sequence[Network]) -> Callable[[Iterable[Record]], list[Group]]:
    """The groups with preferred networks: CNAME, addresses in each network, other addresses, MX, other types."""

    def order(records: Iterable[Record]) -> list[Group]:
        cnames, rest, addresses, exchanges = _kinds(records)
        ranked: list[list[Record]] = [[] for _ in (*networks, None)]
        for record in addresses:
            ranked[next((rank for rank, network in enumerate(networks) if record.rdata in network), -1)].append(record)
        return [(cnames, False), *((group, True) for group in ranked), (exchanges, True), (rest, False)]

    return order


def _kinds(records: Iterable[Record]) -> tuple[list[Record], list[Record], list[Record], list[Record]]:
    cnames: list[Record] = []
    rest: list[Record] = []
    addresses: list[Record] = []
    exchanges: list[Record] = []
    kinds = {Type.CNAME: cnames, Type.A: addresses, Type.AAAA: addresses, Type.MX: exchanges}
    for record in records:
        kinds.get(record.rtype, rest).append(record)
    return cnames, rest, addresses, exchanges


class Rotation:
    """A reply whose address and MX records are shuffled once, and then rotated step by step.

    A group rotated `n` times by the n-th part of its length has each record first equally often.
    """

    def __init__(
        self, reply: Reply, random: Random, order: Callable[[Iterable[Record]], list[Group]] = by_kind
    ) -> None:
        """Splits the reply, which is not changed. `order` groups the answer and the additional section."""
        self._reply = reply
        sections = (order(reply.answer), by_kind(reply.authority), order(reply.additional))
        self._sections = [
            [(_shuffled(group, random) if varies and len(group) > 1 else group, varies) for group, varies in section]
            for section in sections
        ]
        answer, others = self._sections[0], self._sections[1] + self._sections[2]
        self.turns_answer = sum(bool(group) for group, _ in answer) == 1 and not any(
            len(group) > 1 for group, varies in others if varies
        )
        """True if each variant is the whole answer section, rotated."""
        self.widest = max(len(group) for section in self._sections for group, varies in section if varies)
        """The size of the largest rotated group: the most variants with different first records."""

    def variant(self, number: int, of: int) -> Reply:
        """Variant 0 is the shuffled order; the others rotate each group by that part of its length."""
        answer, authority, additional = [_rotated(section, number, of) for section in self._sections]
        return msgspec.structs.replace(self._reply, answer=answer, authority=authority, additional=additional)


def _shuffled(group: list[Record], random: Random) -> list[Record]:
    draw = random.random
    return sorted(group, key=lambda _: draw())


def _rotated(section: list[Group], number: int, of: int) -> Section:
    out: list[Record] = []
    for group, varies in section:
        cut = number * len(group) // of if varies else 0
        out += group[cut:] + group[:cut] if cut else group
    return tuple(out)


Weights = Mapping[bytes, Mapping[bytes, int]]
"""By lowered name and packed address."""


class WeightedDraw:
    """A reply whose first address, in the answer and the additional section, is drawn by its weight.

    An address without a weight has the weight 1.

    Each address comes first in that share of the variants that its weight has, rounded to whole variants.
    """

    def __init__(self, reply: Reply, random: Random, weights: Weights) -> None:
        """Splits the reply, which is not changed. A section without addresses stays as it is."""
        self._reply, self._random = reply, random
        self._answer = _Draw(reply.answer, weights)
        self._additional = _Draw(reply.additional, weights)
        self._points: dict[int, list[float]] = {}
        self.turns_answer = False
        self.widest = WEIGHTED_VARIANTS if max(len(self._answer.addresses), len(self._additional.addresses)) > 1 else 1
        """The number of variants to compile."""

    def variant(self, number: int, of: int) -> Reply:
        """One of `of` variants, in random order."""
        if of not in self._points:
            start = self._random.random()
            self._points[of] = self._random.sample([(number + start) / of for number in range(of)], of)
        point = self._points[of][number]
        return msgspec.structs.replace(
            self._reply, answer=self._answer.section(point), additional=self._additional.section(point)
        )


class _Draw:
    """The addresses of a section, with their cumulative weights."""

    def __init__(self, records: Section, weights: Weights) -> None:
        self._records = records
        cnames, rest, self.addresses, self._exchanges = _kinds(records)
        self._head = cnames + rest
        known = (weights.get(record.owner.lower(), {}).get(record.rdata, 1) for record in self.addresses)
        self._cumulative = list(accumulate(known))

    def section(self, point: float) -> Section:
        """The section with the address first whose share holds `point`, between 0 and 1.

        That address and the first one are swapped.
        """
        if not self.addresses:
            return self._records
        chosen = min(bisect_right(self._cumulative, point * self._cumulative[-1]), len(self.addresses) - 1)
        out = list(self.addresses)
        out[0], out[chosen] = out[chosen], out[0]
        return (*self._head, *out, *self._exchanges)
