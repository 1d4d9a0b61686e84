"""The query rules: each changes the queries that it applies to, and returns the response rules for their replies.

Rules change a `QueryDraft`, never the client's query. The rule for EDNS options is in `edns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from svcdns.plugin_api.query import Query
from svcdns.plugins.rewrite.name_match import Match, RevertName
from svcdns.plugins.rewrite.reply_draft import ResponseRule
from svcdns.plugins.rewrite.response_rules import CnameTarget, OwnerNames, ValueNames
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

Responses = tuple[ResponseRule, ...]


class InvalidNameError(Exception):
    """A rule made text that is not a domain name."""


class QueryDraft:
    """A copy of the query that the rules change. `name` is its name as text in lower case.

    `per_client` is true if the query now has data about the client that equal packets need not have in common, such as
    its address.
    """

    __slots__ = ("name", "per_client", "query")

    def __init__(self, query: Query) -> None:
        """The query of the client does not change."""
        self.query = query.changed()
        self.name = names.to_text(query.key)
        self.per_client = False

    def rename(self, text: str) -> None:
        """Changes the query name. Raises InvalidNameError."""
        try:
            name = names.from_text(text)
        except NameTextError as error:
            raise InvalidNameError(f"invalid name after rewrite: {text}") from error
        self.query.name, self.query.key = name, name.lower()
        self.name = text.lower()


class Rule(Protocol):
    """One `rewrite` directive."""

    @property
    def stop(self) -> bool:
        """Whether no later rule is tried if this one applies."""
        ...

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Changes the query. Returns the response rules, or None if this rule does not apply."""
        ...


@dataclass(frozen=True, slots=True)
class NameRule:
    """Changes the query name.

    With `auto` the reply has the original name again; `answers` are further response rules.
    """

    stop: bool
    match: Match
    to: str
    auto: bool = False
    answers: Responses = ()

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Raises InvalidNameError."""
        original = draft.name
        new = self.match.replaced(original, self.to)
        if new is None:
            return None
        draft.rename(new)
        if not self.auto:
            return self.answers
        back = RevertName(new, original)
        return (OwnerNames(back), ValueNames(back), *self.answers)


@dataclass(frozen=True, slots=True)
class TypeRule:
    """Changes one query type to another."""

    stop: bool
    old: int
    new: int

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Has no response rules."""
        if draft.query.rtype != self.old:
            return None
        draft.query.rtype = self.new
        return ()


@dataclass(frozen=True, slots=True)
class ClassRule:
    """Changes one class to another."""

    stop: bool
    old: int
    new: int

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Has no response rules."""
        if draft.query.rclass != self.old:
            return None
        draft.query.rclass = self.new
        return ()


@dataclass(frozen=True, slots=True)
class ResponsesRule:
    """Does not change the query; has response rules for the names that match. For `ttl` and `rcode`."""

    stop: bool
    match: Match
    responses: Responses

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Applies to the names that match."""
        return self.responses if self.match.matches(draft.name) else None


@dataclass(frozen=True, slots=True)
class CnameRule:
    """Does not change the query; applies to every one. So in mode `stop` no later rule runs."""

    stop: bool
    target: CnameTarget

    def apply(self, draft: QueryDraft) -> Responses | None:  # noqa: ARG002 - applies to every query
        """Has one response rule."""
        return (self.target,)
