"""What rewriting does to replies: rules for each record of a reply, run in the reverse order of the rules for the question.

A reply is rewritten as a `Draft`, whose records have a place each, so that a rule may change a record, or the answer section as a whole,
while it is walked through. Names that are no names any more raise `NameTextError`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from svcdns.plugin_api.contract import joined
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugins.rewrite.name_match import Match, Text
from svcdns.wire import names
from svcdns.wire.codes import TC, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Edns, Record

_DO: Final = 0x8000
_NAME_AT: Final = {Type.CNAME: 0, Type.DNAME: 0, Type.NS: 0, Type.PTR: 0, Type.SOA: 0, Type.MX: 2, Type.SRV: 6}
"""Octets of RDATA before the name that `answer value` rewrites."""


class Place:
    """Where a record stands."""

    __slots__ = ("record",)

    def __init__(self, record: Record) -> None:
        self.record = record


class Draft:
    """A reply being rewritten. `query` is the question as the chain was asked it."""

    def __init__(self, reply: Reply, query: Query) -> None:
        self.reply, self.query = reply, query
        self.rcode, self.flags, self.edns = reply.rcode, reply.flags, reply.edns
        self.answer, self.authority, self.additional = _places(reply.answer), _places(reply.authority), _places(reply.additional)

    def hold_still(self) -> None:
        """The TTLs are worked out for this second: the reply lives until those that it was made from go down."""
        reply = self.reply
        self.reply = msgspec.structs.replace(reply, lifetime=min(reply.lifetime, reply.next_second), next_second=UNTIL_CHANGED)

    def finished(self) -> Reply:
        """The reply that the draft has become."""
        return msgspec.structs.replace(
            self.reply,
            rcode=self.rcode,
            flags=self.flags,
            edns=self.edns,
            answer=_records(self.answer),
            authority=_records(self.authority),
            additional=_records(self.additional),
        )


Work = Generator[Answer, Reply, None]


class ResponseRule(Protocol):
    """A rule for the records of a reply. `place` is None for the OPT record, and once for a reply that has no record at all."""

    def apply(self, draft: Draft, place: Place | None) -> Work | None:
        """Changes the draft; a rule that has to ask gives a generator of what it asks."""
        ...


def rewritten(draft: Draft, rules: list[ResponseRule]) -> Generator[Answer, Reply, Reply]:
    """The reply with all rules applied: authority, answer, additional, the OPT last. Raises NameTextError."""
    places: list[Place | None] = [*draft.authority, *draft.answer, *draft.additional]
    if draft.edns is not None or not places:
        places.append(None)
    for place in places:
        for rule in reversed(rules):
            work = rule.apply(draft, place)
            if work is not None:
                yield from work
    return draft.finished()


@dataclass(frozen=True, slots=True)
class OwnerNames:
    """Owner names become others."""

    text: Text

    def apply(self, draft: Draft, place: Place | None) -> None:  # noqa: ARG002 - the record alone
        """Changes the record's owner."""
        if place is not None:
            record = place.record
            owner = _renamed(record.owner, self.text)
            if owner is not record.owner:
                place.record = msgspec.structs.replace(record, owner=owner)


@dataclass(frozen=True, slots=True)
class ValueNames:
    """Names in RDATA become others: the one name of CNAME, DNAME, MX, NAPTR, NS, PTR and SRV, the first one of SOA."""

    text: Text

    def apply(self, draft: Draft, place: Place | None) -> None:  # noqa: ARG002 - the record alone
        """Changes the record's data."""
        at = None if place is None else _name_at(place.record)
        if place is not None and at is not None:
            record = place.record
            name, behind = names.read_name(record.rdata, at)
            value = _renamed(name, self.text)
            if value is not name:
                place.record = msgspec.structs.replace(record, rdata=record.rdata[:at] + value + record.rdata[behind:])


@dataclass(frozen=True, slots=True)
class Ttl:
    """TTLs are brought within bounds, in seconds; that of the OPT too, which holds its flags."""

    least: int
    most: int

    def apply(self, draft: Draft, place: Place | None) -> None:
        """Changes the record's TTL."""
        draft.hold_still()
        if place is not None:
            ttl = self._bounded(place.record.ttl)
            if ttl != place.record.ttl:
                place.record = msgspec.structs.replace(place.record, ttl=ttl)
        elif draft.edns is not None:
            flags = self._bounded(_DO if draft.edns.dnssec_ok else 0)
            draft.edns = msgspec.structs.replace(draft.edns, dnssec_ok=bool(flags & _DO))

    def _bounded(self, ttl: int) -> int:
        return min(max(ttl, self.least), self.most)


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """One response code becomes another."""

    old: int
    new: int

    def apply(self, draft: Draft, place: Place | None) -> None:  # noqa: ARG002 - no record matters
        """Changes the draft's code."""
        if draft.rcode == self.old:
            draft.rcode = self.new


@dataclass(frozen=True, slots=True)
class CnameTarget:
    """A CNAME leads elsewhere: to what the server itself answers for the new target, in the place of what followed."""

    match: Match
    to: str

    def apply(self, draft: Draft, place: Place | None) -> Work | None:
        """Asks for the new target where the record is a CNAME to an old one."""
        if place is None or place.record.rtype != Type.CNAME:
            return None
        target = self.match.replaced(names.to_text(place.record.rdata), self.to)
        return None if target is None else self._follow(draft, place.record.rdata, target)

    @staticmethod
    def _follow(draft: Draft, old: bytes, text: str) -> Work:
        try:
            target = names.from_text(text)
        except NameTextError:
            return
        reply = yield draft.query.ask(target, draft.query.rtype)
        if reply.dropped:
            return
        kept: list[Place] = []
        for place in draft.answer:
            if place.record.rtype == Type.CNAME:
                kept.append(place)
                if place.record.rdata == old:
                    place.record = msgspec.structs.replace(place.record, rdata=target)
                    break
        draft.answer = kept + _places(reply.answer)
        draft.flags = draft.flags & ~TC | reply.flags & TC
        draft.hold_still()
        draft.reply = joined(draft.reply, reply)


@dataclass(frozen=True, slots=True)
class OptionReverted:
    """Gives an EDNS option back the data that a rule had replaced; with None, takes one away that a rule had added."""

    code: int
    data: bytes | None = None

    def apply(self, draft: Draft, place: Place | None) -> None:
        """Changes the reply's own OPT."""
        if place is None and draft.edns is not None:
            draft.edns = self.reverted(draft.edns)

    def reverted(self, edns: Edns) -> Edns:
        """The OPT with the first option of the code as it was."""
        codes = [code for code, _ in edns.options]
        if self.code not in codes:
            return edns
        at = codes.index(self.code)
        before = () if self.data is None else ((self.code, self.data),)
        return msgspec.structs.replace(edns, options=(*edns.options[:at], *before, *edns.options[at + 1 :]))


def _name_at(record: Record) -> int | None:
    if record.rtype == Type.NAPTR:
        at = 4
        for _ in range(3):
            at += 1 + record.rdata[at]
        return at
    return _NAME_AT.get(record.rtype)


def _renamed(name: bytes, change: Text) -> bytes:
    """The name changed; the same object where its text stays."""
    text = names.to_text(name)
    new = change(text)
    return name if new == text else names.from_text(new)


def _places(records: tuple[Record, ...]) -> list[Place]:
    return [Place(record) for record in records]


def _records(places: list[Place]) -> tuple[Record, ...]:
    return tuple(place.record for place in places)
