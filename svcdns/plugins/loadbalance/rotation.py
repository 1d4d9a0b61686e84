"""Makes variants of a reply with the address records in different orders, so that clients use all addresses.

A variant is a copy of the reply. In a section, CNAME records come first, then other types, addresses, and MX records,
as in CoreDNS. Only the order of addresses and of MX records varies (RFC 1794).
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
"""Records that stay next to each other in every variant, and whether their order varies."""

WEIGHTED_VARIANTS: Final = 64
"""The number of variants of a weighted reply. With so many, shares of variants represent the weights well."""


def by_kind(records: Iterable[Record]) -> list[Group]:
    """Splits a section into three groups: CNAME and other records, address records, and MX records."""
    cnames, rest, addresses, exchanges = _kinds(records)
    return [(cnames + rest, False), (addresses, True), (exchanges, True)]


def preferring(networks: Sequence[Network]) -> Callable[[Iterable[Record]], list[Group]]:
    """Returns a function that splits a section into groups by the preferred networks.

    The groups are CNAME records, the addresses in each network, other addresses, MX records, and other types.
    """

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
    """Makes variants of a reply by rotation.

    The address records and the MX records are shuffled once. From one variant to the next, each group is rotated by an
    equal share of its length.
    """

    def __init__(
        self, reply: Reply, random: Random, order: Callable[[Iterable[Record]], list[Group]] = by_kind
    ) -> None:
        """Splits a copy of the reply's records into groups. The reply itself is not changed.

        `order` makes the groups of the answer section and of the additional section.
        """
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
        """True if every variant is a rotation of the whole answer section, and the other sections stay the same."""
        self.widest = max(len(group) for section in self._sections for group, varies in section if varies)
        """The size of the largest group that is rotated. With more variants, a record would be first twice."""

    def variant(self, number: int, of: int) -> Reply:
        """Returns variant `number` of `of` variants. Numbers begin with 0, for the shuffled order."""
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
"""The weights by lower-case name and packed address."""


class WeightedDraw:
    """Makes variants of a reply whose first address is drawn by weight.

    An address without a weight has the weight 1. The share of the variants in which an address is first is proportional
    to its weight.
    """

    def __init__(self, reply: Reply, random: Random, weights: Weights) -> None:
        """Finds the addresses of `reply` and their weights.

        `weights` has the weights by name and address.
        """
        self._reply, self._random = reply, random
        self._answer = _Draw(reply.answer, weights)
        self._additional = _Draw(reply.additional, weights)
        self._points: dict[int, list[float]] = {}
        self.turns_answer = False
        self.widest = WEIGHTED_VARIANTS if max(len(self._answer.addresses), len(self._additional.addresses)) > 1 else 1
        """The number of variants that the answer table encodes."""

    def variant(self, number: int, of: int) -> Reply:
        """Returns variant `number` of `of` variants. Numbers begin with 0."""
        if of not in self._points:
            start = self._random.random()
            self._points[of] = self._random.sample([(number + start) / of for number in range(of)], of)
        point = self._points[of][number]
        return msgspec.structs.replace(
            self._reply, answer=self._answer.section(point), additional=self._additional.section(point)
        )


class _Draw:
    """A section of a reply, from which the first address is drawn by weight."""

    def __init__(self, records: Section, weights: Weights) -> None:
        self._records = records
        cnames, rest, self.addresses, self._exchanges = _kinds(records)
        self._head = cnames + rest
        known = (weights.get(record.owner.lower(), {}).get(record.rdata, 1) for record in self.addresses)
        self._cumulative = list(accumulate(known))

    def section(self, point: float) -> Section:
        """Returns the section with the selected address and the first address swapped.

        `point`, from 0 to 1, selects the address: the addresses divide this range in proportion to their weights.
        """
        if not self.addresses:
            return self._records
        chosen = min(bisect_right(self._cumulative, point * self._cumulative[-1]), len(self.addresses) - 1)
        out = list(self.addresses)
        out[0], out[chosen] = out[chosen], out[0]
        return (*self._head, *out, *self._exchanges)
