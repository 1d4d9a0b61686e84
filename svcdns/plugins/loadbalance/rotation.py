"""Varying the order of address records, so that clients that take the first one spread over all.

The order inside a section is CNAMEs first, then other types as they stand, then addresses, then MX, as CoreDNS's `loadbalance` sends
them (RFC 1794 asks only that the order varies). A reply is taken apart once, and then put together in as many variants as are wanted.
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
"""Records that stand together, and whether they change places among each other."""

MANY: Final = 64
"""Variants in which the shares of weights show."""


def by_kind(records: Iterable[Record]) -> list[Group]:
    """CNAMEs, other types, addresses, MX."""
    cnames, rest, addresses, exchanges = _kinds(records)
    return [(cnames + rest, False), (addresses, True), (exchanges, True)]


def preferring(networks: Sequence[Network]) -> Callable[[Iterable[Record]], list[Group]]:
    """CNAMEs, the addresses in each of the networks in turn, the other addresses, MX, other types."""

    def order(records: Iterable[Record]) -> list[Group]:
        cnames, rest, addresses, exchanges = _kinds(records)
        ranked: list[list[Record]] = [[] for _ in (*networks, None)]
        for record in addresses:
            ranked[next((rank for rank, network in enumerate(networks) if record.rdata in network), -1)].append(record)
        return [(cnames, False), *((group, True) for group in ranked), (exchanges, True), (rest, False)]

    return order


def in_order(records: Section) -> Section:
    """The records by kind, each kind as it stood."""
    if len({r.rtype for r in records}) < 2:
        return records
    return tuple(record for group, _ in by_kind(records) for record in group)


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
    """A reply whose address and MX records were put in random order once, to be turned step by step.

    The same group turned `n` times by the n-th part of its length puts each record first equally often.
    """

    def __init__(self, reply: Reply, random: Random, order: Callable[[Iterable[Record]], list[Group]] = by_kind) -> None:
        """Takes the reply apart; nothing of it changes. `order` is that of the answer and the additional section."""
        self._reply = reply
        sections = (order(reply.answer), by_kind(reply.authority), order(reply.additional))
        self._sections = [
            [(_shuffled(group, random) if turns and len(group) > 1 else group, turns) for group, turns in section] for section in sections
        ]
        answer, others = self._sections[0], self._sections[1] + self._sections[2]
        self.turns_answer = sum(bool(group) for group, _ in answer) == 1 and not any(len(group) > 1 for group, turns in others if turns)
        """Whether the variants are those of the answer as a whole, turned."""
        self.widest = max(len(group) for section in self._sections for group, turns in section if turns)
        """Records of the largest group that is turned: the most variants that differ in what comes first."""

    def variant(self, number: int, of: int) -> Reply:
        """Number 0 is the random order itself; the others turn each group on by that part of its length."""
        answer, authority, additional = [_turned(section, number, of) for section in self._sections]
        return msgspec.structs.replace(self._reply, answer=answer, authority=authority, additional=additional)


def _shuffled(group: list[Record], random: Random) -> list[Record]:
    draw = random.random
    return sorted(group, key=lambda _: draw())


def _turned(section: list[Group], number: int, of: int) -> Section:
    out: list[Record] = []
    for group, turns in section:
        cut = number * len(group) // of if turns else 0
        out += group[cut:] + group[:cut] if cut else group
    return tuple(out)


Weights = Mapping[bytes, Mapping[bytes, int]]
"""By lowered name and packed address."""


class WeightedDraw:
    """A reply whose first address, in the answer and in the additional section, is drawn by its weight, 1 if it has none.

    Of several variants each address comes first in the share that its weight has, as nearly as whole numbers can be.
    """

    def __init__(self, reply: Reply, random: Random, weights: Weights) -> None:
        """Takes the reply apart; nothing of it changes. A section without addresses stays as it stands."""
        self._reply, self._random = reply, random
        self._answer = _Draw(reply.answer, weights)
        self._additional = _Draw(reply.additional, weights)
        self._places: dict[int, list[float]] = {}
        self.turns_answer = False
        self.widest = MANY if max(len(self._answer.addresses), len(self._additional.addresses)) > 1 else 1
        """The most variants that make sense."""

    def variant(self, number: int, of: int) -> Reply:
        """One of so many variants, in random order."""
        if of not in self._places:
            start = self._random.random()
            self._places[of] = self._random.sample([(place + start) / of for place in range(of)], of)
        place = self._places[of][number]
        return msgspec.structs.replace(self._reply, answer=self._answer.section(place), additional=self._additional.section(place))


class _Draw:
    """The addresses of a section, and how far each one's share of the weights reaches."""

    def __init__(self, records: Section, weights: Weights) -> None:
        self._records = records
        cnames, rest, self.addresses, self._exchanges = _kinds(records)
        self._head = cnames + rest
        known = (weights.get(record.owner.lower(), {}).get(record.rdata, 1) for record in self.addresses)
        self._reach = list(accumulate(known))

    def section(self, place: float) -> Section:
        """The section with the address first whose share holds the place, between 0 and 1; it changes places with the first."""
        if not self.addresses:
            return self._records
        chosen = min(bisect_right(self._reach, place * self._reach[-1]), len(self.addresses) - 1)
        out = list(self.addresses)
        out[0], out[chosen] = out[chosen], out[0]
        return (*self._head, *out, *self._exchanges)
