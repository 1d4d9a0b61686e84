"""Finds regular expressions that match no name.

Patterns are matched against query names in lower case, with their final dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from svcdns.corefile.blocks import Directive, Token
from svcdns.inspection.problem import Problem, warning
from svcdns.inspection.reading import Reading

_ENDS_WITHOUT_DOT: Final = re.compile(r"(?:^|[^\\])[A-Za-z0-9-]\$$|\\[dw]\$$")
_ESCAPED: Final = re.compile(r"\\.|\[[^\]]*\]|\(\?P?<[^>]*>|\(\?[a-zA-Z]+\)|\{[^}]*\}")
_UPPER: Final = re.compile(r"[A-Z]")


def _patterns(directive: Directive) -> Iterator[Token]:
    """Yields the words of a directive that are patterns for query names."""
    name, words = directive.name.text, list(directive.arguments)
    if name == "template":
        for line in directive.body or ():
            if line.name.text == "match":
                yield from line.arguments
    elif name == "rewrite":
        if len(words) < 2:
            words = [word for line in directive.body or () for word in (line.name, *line.arguments)]
        texts = [word.text.lower() for word in words]
        if texts[:1] in (["stop"], ["continue"]):
            words, texts = words[1:], texts[1:]
        if len(texts) > 2 and texts[0] == "name" and texts[1] == "regex":
            yield words[2]


def reason_without_match(pattern: str) -> str:
    """Returns the reason why the pattern can match no query name, or an empty text if it may match one."""
    if "|" in pattern:
        return ""
    if _ENDS_WITHOUT_DOT.search(pattern):
        return "it ends before the dot at the end of every name"
    if "(?i" not in pattern and _UPPER.search(_ESCAPED.sub("", pattern)):
        return "it has a capital letter, and names are matched in lower case"
    return ""


def patterns_that_never_match(reading: Reading) -> Iterator[Problem]:
    """Finds patterns of `template` and `rewrite name regex` that no query name can match."""
    for plan in reading.plans:
        for directive in plan.directives:
            for word in _patterns(directive):
                reason = reason_without_match(word.text)
                if reason:
                    mend = (
                        "end it with '\\.$'" if "dot" in reason else "write it in lower case, or begin it with '(?i)'"
                    )
                    yield warning(
                        word.position, "pattern-without-match", f"'{word.text}' matches no name: {reason}", mend
                    )
