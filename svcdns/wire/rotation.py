"""Varying the order of address records, so that clients that take the first one spread over all.

The order inside a section is CNAMEs first, then other types as they stand, then addresses, then MX, as CoreDNS's `loadbalance` sends
them (RFC 1794 asks only that the order varies). The same set turned `n` times by the n-th part of its length puts each record first
equally often.
"""

from __future__ import annotations

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


class Rotation:
    """A reply whose address and MX records were put in random order once, to be turned step by step."""

    def __init__(self, reply: Reply, random: Random) -> None:
        """Takes the reply apart; nothing of it changes."""
        self._reply = reply
        self._sections = [_parted(section, random) for section in (reply.answer, reply.authority, reply.additional)]
        self.widest = max(len(group) for _, *groups in self._sections for group in groups)
        """Records of the largest group that is turned: the most variants that differ in what comes first."""

    def variant(self, number: int, of: int) -> Reply:
        """Number 0 is the random order itself; the others turn each group on by that part of its length."""
        answer, authority, additional = (
            (*head, *_turned(addresses, number, of), *_turned(exchanges, number, of)) for head, addresses, exchanges in self._sections
        )
        return msgspec.structs.replace(self._reply, answer=answer, authority=authority, additional=additional)


Parts = tuple[list[Record], list[Record], list[Record]]
"""What is not turned, the addresses, and the mail exchanges of a section."""


def _parted(records: Section, random: Random) -> Parts:
    ordered = in_order(records)
    addresses = [record for record in ordered if record.rtype in _ADDRESSES]
    exchanges = [record for record in ordered if record.rtype == Type.MX]
    head = list(ordered[: len(ordered) - len(addresses) - len(exchanges)])
    return head, random.sample(addresses, len(addresses)), random.sample(exchanges, len(exchanges))


def _turned(group: list[Record], number: int, of: int) -> list[Record]:
    cut = number * len(group) // of
    return group[cut:] + group[:cut]
