"""How rules match and change names. A name is text in presentation form, absolute and in lower case.

The result of a change need not be a valid domain name; the callers check it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from svcdns.corefile.blocks import Token
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.regex import Regex, regex

MATCH_KINDS: Final = ("exact", "prefix", "suffix", "substring", "regex")


class NameChange(Protocol):
    """A function that changes the text of a name."""

    def __call__(self, name: str) -> str:
        """Returns the changed name, or the same name if the change does not apply."""
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """The names that a rule applies to. `kind` is one of MATCH_KINDS.

    With the kind `regex`, a name is matched against `pattern`. With all other kinds, it is compared with `text`.
    """

    kind: str
    text: str
    pattern: Regex | None = None

    def matches(self, name: str) -> bool:
        """Returns True if the rule applies to the name."""
        return self.replaced(name, "") is not None

    def replaced(self, name: str, to: str) -> str | None:
        """Returns the name with `to` in place of the matching part, or None if the name does not match.

        With the kind `regex`, `{n}` in `to` is replaced by group n.
        """
        if self.pattern is not None:
            groups = self.pattern.find(name)
            return None if groups is None else with_groups(to, groups)
        if self.kind == "prefix":
            return to + name[len(self.text) :] if name.startswith(self.text) else None
        if self.kind == "suffix":
            return name[: len(name) - len(self.text)] + to if name.endswith(self.text) else None
        if self.kind == "substring":
            return name.replace(self.text, to) if self.text in name else None
        return to if name == self.text else None


@dataclass(frozen=True, slots=True)
class RevertName:
    """Changes the name `new`, and names that end with it, back to `original`."""

    new: str
    original: str

    def __call__(self, name: str) -> str:
        """Returns the name with `original` in place of `new`."""
        if name == self.new:
            return self.original
        return name[: -len(self.new)] + self.original if name.endswith("." + self.new) else name


@dataclass(frozen=True, slots=True)
class ReplaceName:
    """Changes the names that match."""

    match: Match
    to: str

    def __call__(self, name: str) -> str:
        """Returns the name with `to` in place of the matching part."""
        replaced = self.match.replaced(name, self.to)
        return name if replaced is None else replaced


def with_groups(to: str, groups: tuple[str, ...]) -> str:
    """Returns `to` with `{0}`, `{1}` and so on replaced by the groups, in the order of their numbers."""
    for number, group in enumerate(groups):
        to = to.replace(f"{{{number}}}", group)
    return to


def absolute(text: str) -> str:
    """Returns the text in lower case with a final dot."""
    return (text if text.endswith(".") else text + ".").lower()


def match_kind(word: Token) -> str:
    """Returns the kind of match that a word names. Raises CorefileError."""
    kind = word.text.lower()
    if kind not in MATCH_KINDS:
        raise CorefileError(
            word.position, f"'{word.text}' is not a kind of match; one of {', '.join(MATCH_KINDS)} was expected"
        )
    return kind


def parse_match(words: list[Token]) -> Match:
    """Parses `[MATCH] NAME`, which is one or two words. Raises CorefileError."""
    kind, name = (match_kind(words[0]), words[1]) if len(words) > 1 else ("exact", words[0])
    return Match(kind, name.text, regex(name)) if kind == "regex" else Match(kind, absolute(name.text))


def check_groups(pattern: Regex, to: Token) -> None:
    """Raises CorefileError if `to` uses a group that the pattern does not have."""
    used = set(re.findall(r"\{(0|[1-9]\d?|100)\}", to.text))
    if len(used) > pattern.groups:
        raise CorefileError(to.position, f"'{to.text}' uses more groups than '{pattern.text}' has ({pattern.groups})")
