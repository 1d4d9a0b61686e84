"""The query rules. Each rule changes the queries that it applies to, and returns response rules for their replies.

Rules change a `QueryDraft`, never the client's query. The rule for EDNS options is in the module `edns`.
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
    """Raised if a rule produces a text that is not a domain name."""


class QueryDraft:
    """A copy of the query, which the rules change.

    `name` is the query name as text in lower case. If `per_client` is true, a rule has added data of the client, such
    as its address: the reply must not be reused for other clients.
    """

    __slots__ = ("name", "per_client", "query")

    def __init__(self, query: Query) -> None:
        """Copies the client's query, which stays unchanged."""
        self.query = query.changed()
        self.name = names.to_text(query.key)
        self.per_client = False

    def rename(self, text: str) -> None:
        """Sets the query name. Raises InvalidNameError."""
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
        """Returns True if no later rule is tried after this one has been applied."""
        ...

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Changes the query. Returns the response rules, or None if this rule does not apply to the query."""
        ...


@dataclass(frozen=True, slots=True)
class NameRule:
    """Changes the query name.

    If `auto` is true, the reply has the original name again. `answers` has additional response rules.
    """

    stop: bool
    match: Match
    to: str
    auto: bool = False
    answers: Responses = ()

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Changes the name and returns the response rules, or returns None if the name does not match.

        Raises InvalidNameError.
        """
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
        """Changes the query type and returns no response rules. Returns None if the query has another type."""
        if draft.query.rtype != self.old:
            return None
        draft.query.rtype = self.new
        return ()


@dataclass(frozen=True, slots=True)
class ClassRule:
    """Changes one query class to another."""

    stop: bool
    old: int
    new: int

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Changes the query class and returns no response rules. Returns None if the query has another class."""
        if draft.query.rclass != self.old:
            return None
        draft.query.rclass = self.new
        return ()


@dataclass(frozen=True, slots=True)
class ResponsesRule:
    """A rule `rewrite ttl` or `rewrite rcode`, which changes the replies to queries for matching names."""

    stop: bool
    match: Match
    responses: Responses

    def apply(self, draft: QueryDraft) -> Responses | None:
        """Returns the response rules if the name matches, otherwise None."""
        return self.responses if self.match.matches(draft.name) else None


@dataclass(frozen=True, slots=True)
class CnameRule:
    """A rule `rewrite cname`, which changes the CNAME records in replies. The query stays unchanged.

    The rule applies to every query.
    """

    stop: bool
    target: CnameTarget

    def apply(self, draft: QueryDraft) -> Responses | None:  # noqa: ARG002 - applies to every query
        """Returns the response rule for CNAME records."""
        return (self.target,)
