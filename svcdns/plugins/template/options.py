"""The options of `template` (docs/behaviour/plugins.md#template)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.regex import Regex, regex
from svcdns.corefile.regex import compiled as compile_regex
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.expressions import FUNCTIONS, Expression, ExpressionError, compile_expression
from svcdns.plugin_api.expressions.functions import BUILTINS, PREDICATES
from svcdns.plugin_api.expressions.parser import RESERVED
from svcdns.plugins.template.go_template import ParsedTemplate, TemplateError, parse_template
from svcdns.wire.codes import Class, Rcode, Type

SECTIONS: Final = ("answer", "additional", "authority")
GROUP_FUNCTION: Final = "group"
"""The function in expressions that returns a group of the pattern's match."""
_KNOWN: Final = (*SECTIONS, "match", "var", "expr", "rcode", "ederror", "fallthrough", "upstream")
_VARIABLE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Rule:
    """One `template` directive: the queries that it applies to, and its answer.

    `answer`, `additional` and `authority` have one template for each record. `zones` and `fallthrough` are names as
    text. `ederror` has the code and text of an extended DNS error (RFC 8914).
    """

    rclass: int
    rtype: int
    zones: tuple[str, ...]
    patterns: tuple[Regex, ...]
    variables: tuple[tuple[str, Expression], ...] = ()
    conditions: tuple[Expression, ...] = ()
    answer: tuple[ParsedTemplate, ...] = ()
    additional: tuple[ParsedTemplate, ...] = ()
    authority: tuple[ParsedTemplate, ...] = ()
    rcode: int = 0
    ederror: tuple[int, str] | None = None
    fallthrough: tuple[str, ...] = ()
    places: tuple[Position, ...] = field(default=(), compare=False)
    """The positions of the templates in the Corefile, in the order answer, additional and authority section."""


@dataclass(frozen=True, slots=True)
class Options:
    """The rules of one server block, in the order of the Corefile."""

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `template` directives. Raises CorefileError."""
    ignored = tuple(line for directive in block.directives for line in arguments.ignored_zones(directive.arguments[2:]))
    upstream = tuple(
        arguments.warning(line.position, "'upstream' is ignored, it has no effect any more")
        for directive in block.directives
        for line in arguments.body(directive)
        if line.name.text == "upstream"
    )
    rules = tuple(_rule(directive, block.zones) for directive in block.directives)
    ignored += tuple(
        text
        for directive in block.directives
        for text in arguments.ignored_option_zones(arguments.options(directive, {"rcode": 1}), {"fallthrough": 0})
    )
    return Options(rules, ignored + upstream)


def _rule(directive: Directive, zones: tuple[str, ...]) -> Rule:
    rclass, rtype, *names = arguments.arguments(directive, 2, arguments.UNBOUNDED)
    if rclass.text not in Class.__members__:
        raise CorefileError(rclass.position, f"invalid query class {rclass.text}")
    number = Type.__members__.get(rtype.text.replace("-", "_"))
    if number is None:
        raise CorefileError(rtype.position, f"invalid RR type {rtype.text}")
    draft = _RuleDraft()
    for line in arguments.options(directive, {"rcode": 1}):
        draft.add(line)
    return Rule(
        Class[rclass.text],
        number,
        arguments.zones(names, zones),
        tuple(draft.patterns) or (compile_regex(".*"),),
        tuple(draft.variables.items()),
        tuple(draft.conditions),
        answer=tuple(draft.templates["answer"]),
        additional=tuple(draft.templates["additional"]),
        authority=tuple(draft.templates["authority"]),
        rcode=draft.rcode,
        ederror=draft.ederror,
        fallthrough=draft.fallthrough,
        places=tuple(place for section in SECTIONS for place in draft.places[section]),
    )


class _RuleDraft:
    def __init__(self) -> None:
        self.patterns: list[Regex] = []
        self.variables: dict[str, Expression] = {}
        self.conditions: list[Expression] = []
        self.templates: dict[str, list[ParsedTemplate]] = {section: [] for section in SECTIONS}
        self.places: dict[str, list[Position]] = {section: [] for section in SECTIONS}
        self.rcode = 0
        self.ederror: tuple[int, str] | None = None
        self.fallthrough: tuple[str, ...] = ()

    def add(self, line: Directive) -> None:
        """Adds one line in the directive's braces to the rule. Raises CorefileError."""
        arguments.no_body(line)
        match line.name.text:
            case "match":
                self.patterns += (regex(word) for word in arguments.arguments(line, 1, arguments.UNBOUNDED))
            case "answer" | "additional" | "authority":
                words = arguments.arguments(line, 1, arguments.UNBOUNDED)
                self.templates[line.name.text] += map(_template, words)
                self.places[line.name.text] += (word.position for word in words)
            case "var":
                self._variable(line)
            case "expr":
                self.conditions.append(self._expression(arguments.arguments(line, 1, arguments.UNBOUNDED)))
            case "rcode":
                word = arguments.argument(line)
                if word.text not in Rcode.__members__:
                    raise CorefileError(word.position, f"unknown rcode {word.text}")
                self.rcode = Rcode[word.text]
            case "ederror":
                words = arguments.arguments(line, 1, 2)
                self.ederror = (arguments.integer(words[0], 0, 65535), words[1].text if len(words) > 1 else "")
            case "fallthrough":
                self.fallthrough = arguments.fallthrough(line)
            case "upstream":
                pass
            case _:
                raise arguments.unknown_option(line, _KNOWN)

    def _variable(self, line: Directive) -> None:
        name, *words = arguments.arguments(line, 2, arguments.UNBOUNDED)
        if _VARIABLE.fullmatch(name.text) is None:
            raise CorefileError(name.position, f"invalid variable name '{name.text}'")
        if name.text in (*FUNCTIONS, GROUP_FUNCTION, *BUILTINS, *PREDICATES, *RESERVED, *self.variables):
            raise CorefileError(name.position, f"variable name '{name.text}' is reserved")
        self.variables[name.text] = self._expression(tuple(words))

    def _expression(self, words: tuple[Token, ...]) -> Expression:
        try:
            return compile_expression(
                " ".join(word.text for word in words), {*FUNCTIONS, GROUP_FUNCTION}, self.variables
            )
        except ExpressionError as error:
            raise CorefileError(words[0].position, f"could not compile expression: {error}") from error


def _template(word: Token) -> ParsedTemplate:
    try:
        return parse_template(word.text)
    except TemplateError as error:
        raise CorefileError(word.position, f"could not compile template: {error}") from error
