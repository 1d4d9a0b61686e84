"""A reply that response rules change: `ReplyDraft`, and `apply_rules`, which applies the rules to each of its records.

Rules may replace a record, or the whole answer section, while `apply_rules` goes through the records. So each record of
the draft is in a `DraftRecord`, which keeps its identity. This module knows no rule; they are in `response_rules`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

import msgspec

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.wire.record import Record

RuleSteps = Generator[Answer, Reply, None]
"""Yields the server's answers that a rule waits for, and is sent their replies."""


class DraftRecord:
    """A record of a draft. Rules replace `record`."""

    __slots__ = ("record",)

    def __init__(self, record: Record) -> None:
        self.record = record


class ReplyDraft:
    """A reply that is being changed. `query` is the query that the chain has answered."""

    def __init__(self, reply: Reply, query: Query) -> None:
        self.reply, self.query = reply, query
        self.rcode, self.flags, self.edns = reply.rcode, reply.flags, reply.edns
        self.answer = draft_records(reply.answer)
        self.authority = draft_records(reply.authority)
        self.additional = draft_records(reply.additional)

    def keep_ttls(self) -> None:
        """Ends the lifetime when the TTLs of the chain's reply go down: a rule has used their present values."""
        reply = self.reply
        self.reply = msgspec.structs.replace(
            reply, lifetime=min(reply.lifetime, reply.next_second), next_second=UNTIL_CHANGED
        )

    def finished(self) -> Reply:
        """The changed reply."""
        return msgspec.structs.replace(
            self.reply,
            rcode=self.rcode,
            flags=self.flags,
            edns=self.edns,
            answer=_records(self.answer),
            authority=_records(self.authority),
            additional=_records(self.additional),
        )


class ResponseRule(Protocol):
    """A rule for the records of a reply."""

    def apply(self, draft: ReplyDraft, item: DraftRecord | None) -> RuleSteps | None:
        """Changes one record, or the draft. A rule that queries the server returns the steps for it.

        `item` is None for the OPT record, and once for a reply without records.
        """
        ...


def apply_rules(draft: ReplyDraft, rules: list[ResponseRule]) -> Generator[Answer, Reply, Reply]:
    """The reply after all rules, the last rule first: authority, answer, additional section, OPT record.

    Raises NameTextError.
    """
    items: list[DraftRecord | None] = [*draft.authority, *draft.answer, *draft.additional]
    if draft.edns is not None or not items:
        items.append(None)
    for item in items:
        for rule in reversed(rules):
            steps = rule.apply(draft, item)
            if steps is not None:
                yield from steps
    return draft.finished()


def draft_records(records: tuple[Record, ...]) -> list[DraftRecord]:
    """Records as items of a draft."""
    return [DraftRecord(record) for record in records]


def _records(items: list[DraftRecord]) -> tuple[Record, ...]:
    return tuple(item.record for item in items)
