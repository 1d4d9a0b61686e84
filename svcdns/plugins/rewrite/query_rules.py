"""Rules for questions: each changes a question that it applies to, and says what is to be done to the reply.

A rule works on a copy of the query that the handler made for it. It gives None where it does not apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from svcdns.plugin_api.query import Query
from svcdns.plugins.rewrite.name_match import Back, Match
from svcdns.plugins.rewrite.response_rules import CnameTarget, OwnerNames, ResponseRule, ValueNames
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

Responses = tuple[ResponseRule, ...]


class InvalidName(Exception):
    """A rule made text that is not a domain name."""


class Asked:
    """The question as the rules so far have made it. `text` is its name lowered, in presentation form.

    `personal` says that something about the client, other than what its packet says, has become part of the question.
    """

    __slots__ = ("personal", "query", "text")

    def __init__(self, query: Query) -> None:
        """Changes a copy of the query."""
        self.query = query.changed()
        self.text = names.to_text(query.key)
        self.personal = False

    def rename(self, text: str) -> None:
        """Gives the question another name. Raises InvalidName."""
        try:
            name = names.from_text(text)
        except NameTextError as error:
            raise InvalidName(f"invalid name after rewrite: {text}") from error
        self.query.name, self.query.key = name, name.lower()
        self.text = text.lower()


class Rule(Protocol):
    """One rule."""

    @property
    def stop(self) -> bool:
        """Whether the list ends where the rule applied."""
        ...

    def apply(self, asked: Asked) -> Responses | None:
        """Changes the question; the rules for its reply, or None where this rule does not apply."""
        ...


@dataclass(frozen=True, slots=True)
class NameRule:
    """Changes the name. `auto` turns the made name back in the reply; `answers` are rules besides."""

    stop: bool
    match: Match
    to: str
    auto: bool = False
    answers: Responses = ()

    def apply(self, asked: Asked) -> Responses | None:
        """Raises InvalidName."""
        before = asked.text
        made = self.match.replaced(before, self.to)
        if made is None:
            return None
        asked.rename(made)
        if not self.auto:
            return self.answers
        back = Back(made, before)
        return (OwnerNames(back), ValueNames(back), *self.answers)


@dataclass(frozen=True, slots=True)
class TypeRule:
    """Changes one type into another."""

    stop: bool
    old: int
    new: int

    def apply(self, asked: Asked) -> Responses | None:
        """Says nothing about replies."""
        if asked.query.rtype != self.old:
            return None
        asked.query.rtype = self.new
        return ()


@dataclass(frozen=True, slots=True)
class ClassRule:
    """Changes one class into another."""

    stop: bool
    old: int
    new: int

    def apply(self, asked: Asked) -> Responses | None:
        """Says nothing about replies."""
        if asked.query.rclass != self.old:
            return None
        asked.query.rclass = self.new
        return ()


@dataclass(frozen=True, slots=True)
class NamedRule:
    """Leaves the question, and applies response rules to the replies for some names: `ttl` and `rcode`."""

    stop: bool
    match: Match
    responses: Responses

    def apply(self, asked: Asked) -> Responses | None:
        """For the names that match."""
        return self.responses if self.match.holds(asked.text) else None


@dataclass(frozen=True, slots=True)
class CnameRule:
    """Leaves the question, and applies to every one, so that no rule behind it runs in mode stop."""

    stop: bool
    target: CnameTarget

    def apply(self, asked: Asked) -> Responses | None:  # noqa: ARG002 - every question
        """For every name."""
        return (self.target,)
