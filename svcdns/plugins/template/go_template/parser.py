"""Parses a template into nodes.

Parsing fails for unknown functions and variables. Fields and types are checked when the template is rendered.
"""

from __future__ import annotations

from typing import Any, Final

from svcdns.plugins.template.go_template import nodes, operands
from svcdns.plugins.template.go_template.functions import FUNCTIONS, LAZY
from svcdns.plugins.template.go_template.lexer import TemplateError, Token, pieces

MAX_DEPTH: Final = 50
_LITERALS: Final[dict[str, Any]] = {"true": True, "false": False, "nil": None}
_UNSUPPORTED: Final = ("define", "template", "block")


class ParsedTemplate:
    """A parsed template. `fields` has the names of all fields that occur in the template."""

    def __init__(self, text: str, parsed: tuple[nodes.Node, ...], fields: frozenset[str]) -> None:
        self.text, self._nodes, self.fields = text, parsed, fields

    def __eq__(self, other: object) -> bool:
        """Returns True if both templates have the same text."""
        return isinstance(other, ParsedTemplate) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def render(self, data: Any) -> str:
        """Returns the text of the template for `data`, which is the value of `.` and `$`. Raises RenderError."""
        rendering = operands.Rendering(data)
        nodes.render(self._nodes, rendering, data)
        return "".join(rendering.out)


def parse_template(text: str) -> ParsedTemplate:
    """Parses a template. Raises TemplateError."""
    parser = _Parser(text)
    parsed, end = parser.body(())
    assert end is None
    return ParsedTemplate(text, parsed, frozenset(parser.fields))


class _Parser:
    def __init__(self, text: str) -> None:
        self.pieces = pieces(text)
        self.tokens: list[Token] = []
        self.at = 0
        self.variables = ["$"]
        self.fields: set[str] = set()
        self.depth = self.ranges = 0

    # -- bodies

    def body(self, ends: tuple[str, ...]) -> tuple[tuple[nodes.Node, ...], str | None]:
        """Parses nodes up to an action that begins with one of the words `ends`. Returns the nodes and this word."""
        self._deeper()
        declared = len(self.variables)
        out: list[nodes.Node] = []
        for piece in self.pieces:
            if isinstance(piece, str):
                out.append(nodes.PlainText(piece))
                continue
            self.tokens, self.at = piece, 0
            word = self.token.text if self.token.kind == "name" else ""
            if word in ends:
                self.at += 1
                self.depth -= 1
                del self.variables[declared:]
                return tuple(out), word
            out.append(self._action(word))
        if ends:
            raise TemplateError("unexpected EOF: an action without {{end}}")
        self.depth -= 1
        return tuple(out), None

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TemplateError(f"nested more than {MAX_DEPTH} deep")

    def _action(self, word: str) -> nodes.Node:
        if word in _UNSUPPORTED:
            raise TemplateError(f"'{word}' is not supported")
        if word in ("end", "else"):
            raise TemplateError(f"unexpected {{{{{word}}}}}")
        if word in ("if", "with", "range"):
            self.at += 1
            return self._branch(word)
        if word in ("break", "continue"):
            self.at += 1
            self._expect_end()
            if not self.ranges:
                raise TemplateError(f"{{{{{word}}}}} outside {{{{range}}}}")
            return nodes.LoopControl(nodes.Break if word == "break" else nodes.Continue)
        pipeline = self._pipeline()
        self._expect_end()
        return nodes.Action(pipeline)

    def _branch(self, word: str) -> nodes.Node:
        declared = len(self.variables)
        pipeline = self._pipeline(most=2 if word == "range" else 1)
        self._expect_end()
        self.ranges += word == "range"
        body, end = self.body(("else", "end"))
        self.ranges -= word == "range"
        else_body: tuple[nodes.Node, ...] = ()
        if end == "else":
            if self.token.text in ("if", "with") and self.token.text == word:
                self.at += 1
                self._deeper()
                else_body = (self._branch(word),)
                self.depth -= 1
                end = None
            else:
                self._expect_end()
                else_body, end = self.body(("end",))
        if end is not None:
            self._expect_end()
        del self.variables[declared:]
        if word == "range":
            return nodes.Range(pipeline, body, else_body)
        return nodes.Branch(pipeline, body, else_body, sets_dot=word == "with")

    # -- pipelines

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def _take(self, text: str) -> bool:
        if self.token.kind == "operator" and self.token.text == text:
            self.at += 1
            return True
        return False

    def _expect_end(self) -> None:
        if self.token.kind != "end":
            raise TemplateError(f"'{self.token.text}' was not expected")

    def _pipeline(self, most: int = 1) -> nodes.Pipeline:
        names, declares = self._declaration(most)
        commands = [self._command()]
        while self._take("|"):
            commands.append(self._command())
        if declares:
            self.variables += names
        return nodes.Pipeline(tuple(commands), names, declares)

    def _declaration(self, most: int) -> tuple[tuple[str, ...], bool]:
        """Parses the variables at the start of a pipeline, up to `most` of them, and `=` or `:=`.

        Returns the variables, and True if they are new. Returns no variables if the pipeline does not begin with an
        assignment.
        """
        start, names = self.at, []
        while self.token.kind == "variable":
            names.append(self.token.text)
            self.at += 1
            if len(names) < most and self._take(","):
                continue
            if self._take(":="):
                return tuple(names), True
            if self._take("="):
                for name in names:
                    self._known(name)
                return tuple(names), False
            break
        self.at = start
        return (), False

    def _command(self) -> nodes.Command:
        token = self.token
        first = self._operand()
        arguments = []
        while self.token.kind != "end" and self.token.text not in ("|", ")"):
            if not self.token.spaced:
                raise TemplateError(f"'{self.token.text}' was not expected after '{self.tokens[self.at - 1].text}'")
            arguments.append(self._operand())
        lazy = token.text if token.kind == "name" and token.text in LAZY else ""
        return nodes.Command(first, tuple(arguments), lazy)

    def _operand(self) -> operands.Operand:
        start = self._term()
        names = []
        while self.token.kind == "field" and not self.token.spaced:
            names.append(self.token.text[1:])
            self.at += 1
        self.fields.update(names)
        return operands.fields(start, tuple(names)) if names else start

    def _term(self) -> operands.Operand:
        token = self.token
        self.at += 1
        if token.kind in ("number", "string"):
            return operands.constant(token.value)
        if token.kind == "field":
            self.at -= 1
            self.tokens[self.at] = token._replace(spaced=False)
            return operands.dot_operand
        if token.kind == "dot":
            return operands.dot_operand
        if token.kind == "variable":
            return self._known(token.text)
        if token.kind == "name":
            return self._named(token.text)
        if token.text == "(":
            self._deeper()
            pipeline = self._pipeline()
            if not self._take(")"):
                raise TemplateError("'(' without ')'")
            self.depth -= 1
            return nodes.parenthesized(pipeline)
        raise TemplateError(f"a value was expected, not '{token.text}'")

    def _known(self, name: str) -> operands.Operand:
        if name not in self.variables:
            raise TemplateError(f'undefined variable "{name}"')
        return operands.variable(name)

    @staticmethod
    def _named(name: str) -> operands.Operand:
        if name in _LITERALS:
            return operands.constant(_LITERALS[name])
        if name not in FUNCTIONS and name not in LAZY:
            raise TemplateError(f'function "{name}" not defined')
        return operands.function(name)
