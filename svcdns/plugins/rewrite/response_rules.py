"""The response rules. Each rule changes one record of a `ReplyDraft`, or the draft as a whole.

A rule raises `NameTextError` if its result is not a domain name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.plugins.rewrite.name_match import Match, NameChange
from svcdns.plugins.rewrite.reply_draft import DraftRecord, ReplyDraft, RuleSteps, draft_records
from svcdns.wire import names
from svcdns.wire.codes import TC, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Edns, Record

_DO: Final = 0x8000
_NAME_AT: Final = {Type.CNAME: 0, Type.DNAME: 0, Type.NS: 0, Type.PTR: 0, Type.SOA: 0, Type.MX: 2, Type.SRV: 6}
"""The offset in the RDATA of the name that `answer value` changes, by type."""


@dataclass(frozen=True, slots=True)
class OwnerNames:
    """Changes the owner names of records."""

    change: NameChange

    def apply(self, draft: ReplyDraft, item: DraftRecord | None) -> None:  # noqa: ARG002 - the record alone
        """Changes the owner name of the record `item`."""
        if item is not None:
            record = item.record
            owner = _renamed(record.owner, self.change)
            if owner is not record.owner:
                item.record = msgspec.structs.replace(record, owner=owner)


@dataclass(frozen=True, slots=True)
class ValueNames:
    """Changes names in the RDATA of CNAME, DNAME, MX, NAPTR, NS, PTR and SRV records, and the MNAME of SOA records."""

    change: NameChange

    def apply(self, draft: ReplyDraft, item: DraftRecord | None) -> None:  # noqa: ARG002 - the record alone
        """Changes the name in the RDATA of the record `item`."""
        at = None if item is None else _name_at(item.record)
        if item is not None and at is not None:
            record = item.record
            name, end = names.read_name(record.rdata, at)
            value = _renamed(name, self.change)
            if value is not name:
                item.record = msgspec.structs.replace(record, rdata=record.rdata[:at] + value + record.rdata[end:])


@dataclass(frozen=True, slots=True)
class TtlBounds:
    """Limits TTLs to a range, in seconds.

    As in CoreDNS, the OPT record's TTL field is limited too, although it contains flags. This may change the DO bit.
    """

    least: int
    most: int

    def apply(self, draft: ReplyDraft, item: DraftRecord | None) -> None:
        """Limits the TTL of the record `item`, or the TTL field of the OPT record if `item` is None."""
        draft.keep_ttls()
        if item is not None:
            ttl = self._bounded(item.record.ttl)
            if ttl != item.record.ttl:
                item.record = msgspec.structs.replace(item.record, ttl=ttl)
        elif draft.edns is not None:
            flags = self._bounded(_DO if draft.edns.dnssec_ok else 0)
            draft.edns = msgspec.structs.replace(draft.edns, dnssec_ok=bool(flags & _DO))

    def _bounded(self, ttl: int) -> int:
        return min(max(ttl, self.least), self.most)


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """Replaces one response code by another."""

    old: int
    new: int

    def apply(self, draft: ReplyDraft, item: DraftRecord | None) -> None:  # noqa: ARG002 - changes the draft only
        """Changes the response code of the reply."""
        if draft.rcode == self.old:
            draft.rcode = self.new


@dataclass(frozen=True, slots=True)
class CnameTarget:
    """Changes the targets of CNAME records that match.

    The records after a changed CNAME record are replaced by the server's answer for the new target.
    """

    match: Match
    to: str

    def apply(self, draft: ReplyDraft, item: DraftRecord | None) -> RuleSteps | None:
        """If `item` is a CNAME record whose target matches, queries the server for the new target."""
        if item is None or item.record.rtype != Type.CNAME:
            return None
        target = self.match.replaced(names.to_text(item.record.rdata), self.to)
        return None if target is None else self._follow(draft, item.record.rdata, target)

    @staticmethod
    def _follow(draft: ReplyDraft, old: bytes, text: str) -> RuleSteps:
        try:
            target = names.from_text(text)
        except NameTextError:
            return
        reply = yield draft.query.ask(target, draft.query.rtype)
        if reply.dropped:
            return
        aliases: list[DraftRecord] = []
        for item in draft.answer:
            if item.record.rtype == Type.CNAME:
                aliases.append(item)
                if item.record.rdata == old:
                    item.record = msgspec.structs.replace(item.record, rdata=target)
                    break
        draft.answer = aliases + draft_records(reply.answer)
        draft.flags = draft.flags & ~TC | reply.flags & TC
        draft.keep_ttls()


@dataclass(frozen=True, slots=True)
class OptionRevert:
    """Restores an EDNS option of the reply that a query rule changed in the query.

    `data` is the option's original value. If the query rule added the option, `data` is None, and the option is
    removed.
    """

    code: int
    data: bytes | None = None

    def apply(self, draft: ReplyDraft, item: DraftRecord | None) -> None:
        """Restores or removes the option in the OPT record of the reply."""
        if item is None and draft.edns is not None:
            draft.edns = self.reverted(draft.edns)

    def reverted(self, edns: Edns) -> Edns:
        """Returns the OPT record with the original value in the first option with this code, or without this option."""
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


def _renamed(name: bytes, change: NameChange) -> bytes:
    """Returns the changed name, or the same object if the text does not change. Raises NameTextError."""
    text = names.to_text(name)
    new = change(text)
    return name if new == text else names.from_text(new)
