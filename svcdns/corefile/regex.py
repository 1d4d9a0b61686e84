"""The regular expressions of a Corefile, with the syntax of RE2, which is also Go's.

The time for a match is linear in the length of the text. The library `re2` is imported when the first pattern is
compiled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from svcdns.corefile.blocks import Token
from svcdns.corefile.errors import CorefileError

MAX_LENGTH: Final = 10000
"""The largest number of characters in a pattern (docs/behaviour/plugins.md#rewrite)."""


@dataclass(frozen=True, slots=True)
class Regex:
    """A compiled pattern. Two patterns are equal if their texts are equal.

    `groups` is the number of groups in the pattern, without the whole match.
    """

    text: str
    groups: int = field(compare=False)
    names: tuple[tuple[str, int], ...] = field(compare=False)
    """The named groups, as pairs of name and group number."""
    _search: Any = field(compare=False, repr=False)

    def find(self, text: str) -> tuple[str, ...] | None:
        """Returns the leftmost match and the texts of its groups, or None if nothing matches.

        A group that is not part of the match has an empty text.
        """
        found = self._search(text)
        return None if found is None else tuple(found.group(n) or "" for n in range(self.groups + 1))


def regex(token: Token, text: str | None = None) -> Regex:
    """Compiles the pattern in a word of the Corefile, or the pattern `text` if that is given.

    Raises CorefileError with the position of the word.
    """
    text = token.text if text is None else text
    if len(text) > MAX_LENGTH:
        raise CorefileError(token.position, f"regex pattern too long: {len(text)} > {MAX_LENGTH} characters")
    try:
        return compiled(text)
    except ValueError as error:
        raise CorefileError(token.position, f"'{text}' is not a regular expression (RE2): {error}") from error


@lru_cache(1024)
def compiled(text: str) -> Regex:
    """Returns the compiled pattern. Raises ValueError if `text` is not a regular expression."""
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
