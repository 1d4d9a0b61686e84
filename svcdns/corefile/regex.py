"""Regular expressions of a Corefile: the syntax of RE2, as in Go, matched in time linear in the length of the text.

Python's `re` is not used: its syntax differs, and some patterns would block a worker for minutes. The library is
imported when the first pattern is compiled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from svcdns.corefile.blocks import Token
from svcdns.corefile.errors import CorefileError

MAX_LENGTH: Final = 10000
"""Characters of a pattern (docs/behaviour/plugins.md#rewrite)."""


@dataclass(frozen=True, slots=True)
class Regex:
    """A compiled pattern; two are equal if their texts are. `groups` is the number of its groups, the whole match not
    counted.
    """

    text: str
    groups: int = field(compare=False)
    names: tuple[tuple[str, int], ...] = field(compare=False)
    """Named groups with their numbers."""
    _search: Any = field(compare=False, repr=False)

    def find(self, text: str) -> tuple[str, ...] | None:
        """The leftmost match and its groups, empty where a group took no part; None without a match. Not anchored."""
        found = self._search(text)
        return None if found is None else tuple(found.group(n) or "" for n in range(self.groups + 1))


def regex(token: Token, text: str | None = None) -> Regex:
    """The pattern that a word says, or `text` in its place. Raises CorefileError at the word."""
    text = token.text if text is None else text
    if len(text) > MAX_LENGTH:
        raise CorefileError(token.position, f"regex pattern too long: {len(text)} > {MAX_LENGTH} characters")
    try:
        return compiled(text)
    except ValueError as error:
        raise CorefileError(token.position, f"'{text}' is not a regular expression (RE2): {error}") from error


@lru_cache(1024)
def compiled(text: str) -> Regex:
    """The pattern of that text. Raises ValueError."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        pattern = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
    return Regex(
        text, pattern.groups, tuple(sorted(pattern.groupindex.items(), key=lambda item: item[1])), pattern.search
    )
