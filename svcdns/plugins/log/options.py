"""The options of the `log` plugin (docs/behaviour/plugins.md#log)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.placeholders import COMBINED, COMMON, JSON

CLASSES: Final = ("all", "success", "denial", "error")
OPTIONS: Final = ("class", "format", "every", "slower")


@dataclass(frozen=True, slots=True)
class Rule:
    """One `log` directive: its zones as text, the format of its lines, and the classes of replies that are logged.

    Replies that took fewer seconds than `slower` are not logged. Of all other replies, one of `every` is logged.
    """

    zones: tuple[str, ...]
    format: str
    classes: frozenset[str]
    every: int = 1
    slower: float = 0.0


@dataclass(frozen=True, slots=True)
class Options:
    """The `log` directives of one block, in the order of the Corefile.

    Only the first directive that has a zone of the query name logs the query.
    """

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `log` directives. Raises CorefileError."""
    named = tuple(word for directive in block.directives for word in directive.arguments if "{" not in word.text)
    ignored = arguments.ignored_zones([word for word in named if word.text])
    return Options(tuple(_rule(directive) for directive in block.directives), ignored)


def _zones(word: Token) -> tuple[str, ...]:
    """Returns the zones that a word names. As in CoreDNS, an empty word means the root zone."""
    return arguments.zones([word]) if word.text else (".",)


def _rule(directive: Directive) -> Rule:
    words = list(directive.arguments)
    template, every, slower = COMMON, 1, 0.0
    if len(words) > 1 and "{" in words[-1].text:
        template = words.pop().text.replace("{common}", COMMON).replace("{combined}", COMBINED)
    zones = tuple(zone for word in words for zone in _zones(word))
    classes: set[str] = set()
    for line in arguments.body(directive):
        match line.name.text:
            case "class":
                found = arguments.arguments(line, 1, arguments.UNBOUNDED)
                classes |= {arguments.one_of(word, CLASSES) for word in found}
            case "format":
                if template != COMMON:
                    raise CorefileError(line.position, "the format of this directive is given twice")
                template = arguments.one_of(arguments.arguments(line, 1, 1)[0], (JSON,))
            case "every":
                every = arguments.integer(arguments.arguments(line, 1, 1)[0], 1)
            case "slower":
                slower = arguments.duration(arguments.arguments(line, 1, 1)[0])
            case _:
                raise arguments.unknown_option(line, OPTIONS)
    return Rule(zones if words else (".",), template, frozenset(classes or {"all"}), every, slower)
