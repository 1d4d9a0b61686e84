"""A reply while response rules change it.

`apply_rules` applies the rules to each record of a `ReplyDraft`. A rule may replace a record, or the whole answer
section. The rules are in the module `response_rules`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

import msgspec

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.wire.record import Record

RuleSteps = Generator[Answer, Reply, None]
"""The steps of a rule.

The generator yields each answer of the server that the rule waits for, and is sent the reply.
"""


class DraftRecord:
    """Holds one record of a `ReplyDraft`. A rule changes the record by replacing the attribute `record`."""

    __slots__ = ("record",)

    def __init__(self, record: Record) -> None:
        self.record = record


class ReplyDraft:
    """A reply that is being changed. `query` is the query that led to the reply."""

    def __init__(self, reply: Reply, query: Query) -> None:
        self.reply, self.query = reply, query
        self.rcode, self.flags, self.edns = reply.rcode, reply.flags, reply.edns
        self.answer = draft_records(reply.answer)
        self.authority = draft_records(reply.authority)
        self.additional = draft_records(reply.additional)

    def keep_ttls(self) -> None:
        """Forbids reuse of the reply after its TTLs would change.

        Call it after a rule has used the values of the TTLs.
        """
        reply = self.reply
        self.reply = msgspec.structs.replace(
            reply, lifetime=min(reply.lifetime, reply.next_second), next_second=UNTIL_CHANGED
        )

    def finished(self) -> Reply:
        """Returns the changed reply."""
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
    """A rule that changes records of a reply."""

    def apply(self, draft: ReplyDraft, item: DraftRecord | None) -> RuleSteps | None:
        """Changes one record, or the draft as a whole.

        The method is called for each record, and with `item` None for the OPT record or for a reply without records.
        Returns steps to run if the rule must query the server, otherwise None.
        """
        ...


def apply_rules(draft: ReplyDraft, rules: list[ResponseRule]) -> Generator[Answer, Reply, Reply]:
    """Applies all rules to each record and to the OPT record, and returns the reply. Raises NameTextError.

    The sections are changed in the order authority, answer, additional. The last rule is applied first.
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
    """Returns a DraftRecord for each record."""
    return [DraftRecord(record) for record in records]


def _records(items: list[DraftRecord]) -> tuple[Record, ...]:
    return tuple(item.record for item in items)
