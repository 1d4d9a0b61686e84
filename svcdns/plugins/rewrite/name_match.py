"""Names as rules see them: absolute, lowered presentation text, and what turns one text into another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from svcdns.corefile.blocks import Token
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.regex import Regex, regex

MATCHES: Final = ("exact", "prefix", "suffix", "substring", "regex")


class Text(Protocol):
    """Turns a name's text into another; gives back the same text where it does not apply."""

    def __call__(self, text: str) -> str:
        """The text for that text."""
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """Which names a rule is for: `how` is one of MATCHES, `text` the words to compare with; `pattern` stands for it with `regex`."""

    how: str
    text: str
    pattern: Regex | None = None

    def holds(self, name: str) -> bool:
        """Whether the name is one of them."""
        return self.replaced(name, "") is not None

    def replaced(self, name: str, to: str) -> str | None:
        """The name with what matched put in its place, None where nothing does. With `regex`, `{n}` in `to` is group n."""
        if self.pattern is not None:
            groups = self.pattern.find(name)
            return None if groups is None else with_groups(to, groups)
        if self.how == "prefix":
            return to + name[len(self.text) :] if name.startswith(self.text) else None
        if self.how == "suffix":
            return name[: len(name) - len(self.text)] + to if name.endswith(self.text) else None
        if self.how == "substring":
            return name.replace(self.text, to) if self.text in name else None
        return to if name == self.text else None


@dataclass(frozen=True, slots=True)
class Back:
    """Turns one name, and what lies below it, back into another."""

    made: str
    asked: str

    def __call__(self, text: str) -> str:
        """The asked name in the place of the made one."""
        if text == self.made:
            return self.asked
        return text[: -len(self.made)] + self.asked if text.endswith("." + self.made) else text


@dataclass(frozen=True, slots=True)
class Replaced:
    """Turns the names that match."""

    match: Match
    to: str

    def __call__(self, text: str) -> str:
        """The text with what matched replaced."""
        replaced = self.match.replaced(text, self.to)
        return text if replaced is None else replaced


def with_groups(to: str, groups: tuple[str, ...]) -> str:
    """`to` with `{0}`, `{1}`, … replaced by the groups, one number after the other."""
    for number, group in enumerate(groups):
        to = to.replace(f"{{{number}}}", group)
    return to


def absolute(text: str) -> str:
    """The text lowered, with a final dot."""
    return (text if text.endswith(".") else text + ".").lower()


def name_match(words: list[Token]) -> Match:
    """The match of `[MATCH] NAME`, one or two words. Raises CorefileError."""
    how, name = (words[0], words[1]) if len(words) > 1 else (None, words[0])
    kind = "exact" if how is None else how.text.lower()
    if how is not None and kind not in MATCHES:
        raise CorefileError(how.position, f"'{how.text}' is no way to match names; one of {', '.join(MATCHES)} was expected")
    return Match(kind, name.text, regex(name)) if kind == "regex" else Match(kind, absolute(name.text))


def check_groups(pattern: Regex, to: Token) -> None:
    """Raises CorefileError where the text names more groups than the pattern has."""
    used = set(re.findall(r"\{(0|[1-9]\d?|100)\}", to.text))
    if len(used) > pattern.groups:
        raise CorefileError(to.position, f"'{to.text}' uses more groups than '{pattern.text}' has ({pattern.groups})")
