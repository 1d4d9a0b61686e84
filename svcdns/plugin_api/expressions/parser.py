"""Parses the text of an expression.

The precedence of operators is that of the expr language, without declarations (`let`) and methods. The parser reports
unknown names, and operands that certainly have a wrong type (`types`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from svcdns.corefile.regex import compiled as compile_regex
from svcdns.plugin_api.expressions import operators, types
from svcdns.plugin_api.expressions.errors import EvaluationError, ExpressionError
from svcdns.plugin_api.expressions.functions import BUILTINS, PREDICATES
from svcdns.plugin_api.expressions.lexer import Token, tokens

MAX_DEPTH: Final = 100
_BINARY: Final = {
    "or": 10, "||": 10, "and": 15, "&&": 15,
    "==": 20, "!=": 20, "<": 20, ">": 20, "<=": 20, ">=": 20,
    "in": 20, "matches": 20, "contains": 20, "startsWith": 20, "endsWith": 20, "not": 20,
    "..": 25, "+": 30, "-": 30, "*": 60, "/": 60, "%": 60, "**": 100, "^": 100, "??": 500,
}  # fmt: skip
_UNARY: Final = {"not": 50, "!": 50, "-": 90, "+": 90}
_NEGATABLE: Final = ("in", "matches", "contains", "startsWith", "endsWith")
_LITERALS: Final[dict[str, Any]] = {"true": True, "false": False, "nil": None}
RESERVED: Final = frozenset({*_LITERALS, *_NEGATABLE, "not", "and", "or", "let", "if", "else"})
"""Words that cannot be names of variables."""


class Scope:
    """The variables and functions of an expression while it is evaluated.

    `values` has them by name. `elements` is a stack with the present list element of each running predicate.
    """

    __slots__ = ("elements", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.elements: list[Any] = []


Node = Callable[[Scope], Any]


class _Typed(NamedTuple):
    """A node, and the type of its value as far as it is known (`types`)."""

    node: Node
    kind: str = types.ANY


class Expression:
    """A compiled expression. `calls` has the names of the functions that it may call, apart from built-in functions.

    `kind` is the type of its value, one of the constants in `types`; `types.ANY` if the type is not known.
    """

    def __init__(self, text: str, node: Node, calls: frozenset[str], kind: str = types.ANY) -> None:
        self.text, self._node, self.calls, self.kind = text, node, calls, kind

    def __eq__(self, other: object) -> bool:
        """Returns True if `other` is an expression with the same text."""
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def run(self, values: Mapping[str, Any]) -> Any:
        """Returns the value of the expression. `values` has variables and functions by name. Raises EvaluationError."""
        try:
            return self._node(Scope(values))
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
            raise EvaluationError(f"{self.text}: {error}") from error


def compile_expression(text: str, functions: Collection[str], variables: Collection[str] = ()) -> Expression:
    """Compiles the text of an expression. Raises ExpressionError.

    The expression may use built-in functions, `functions` and `variables`.
    """
    parser = _Parser(tokens(text), functions, variables)
    found = parser.expression()
    parser.expect_end()
    return Expression(text, found.node, frozenset(parser.calls), found.kind)


class _Parser:
    def __init__(self, found: list[Token], functions: Collection[str], variables: Collection[str]) -> None:
        self.tokens, self.at = found, 0
        self.functions, self.variables = functions, variables
        self.calls: set[str] = set()
        self.depth = self.predicates = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def take(self, *texts: str) -> bool:
        """Returns True and consumes the present token, if it is one of the words or operators `texts`."""
        if self.token.kind in ("name", "operator") and self.token.text in texts:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise ExpressionError(f"'{text}' was expected, not '{self.token.text}'")

    def expect_end(self) -> None:
        if self.token.kind != "end":
            raise ExpressionError(f"'{self.token.text}' was not expected")

    def expression(self, power: int = 0) -> _Typed:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"nested more than {MAX_DEPTH} deep")
        left = self.unary()
        while (binding := self._binding()) >= max(power, 1):
            left = self._binary(left, binding)
        if power == 0:
            left = self._tail(left)
        self.depth -= 1
        return left

    def _binding(self) -> int:
        token = self.token
        if token.kind not in ("name", "operator"):
            return 0
        if token.text == "not" and self.tokens[self.at + 1].text not in _NEGATABLE:
            return 0
        return _BINARY.get(token.text, 0)

    def _binary(self, left: _Typed, binding: int) -> _Typed:
        operator = self.token.text
        self.at += 1
        if operator == "not":
            operator = self.token.text
            self.at += 1
            right = self.expression(binding + 1)
            kind = types.binary(operator, left.kind, right.kind)
            return _Typed(operators.negated(operators.binary(operator, left.node, right.node)), kind)
        if operator == "matches" and self.token.kind == "string":
            self._check_pattern(self.token.value)
        right = self.expression(binding if operator in ("**", "^") else binding + 1)
        kind = types.binary(operator, left.kind, right.kind)
        return _Typed(operators.binary(operator, left.node, right.node), kind)

    @staticmethod
    def _check_pattern(text: str) -> None:
        try:
            compile_regex(text)
        except ValueError as error:
            raise ExpressionError(f"'{text}' is not a regular expression (RE2): {error}") from error

    def _tail(self, left: _Typed) -> _Typed:
        """Parses the operators of the lowest precedence: `|` and `? :`."""
        while self.token.text in ("|", "?") and self.token.kind == "operator":
            if self.take("|"):
                if self.token.kind != "name":
                    raise ExpressionError(f"a function was expected after '|', not '{self.token.text}'")
                left = self._postfix(self._call(self._name(), left))
            elif self.take("?"):
                then = left
                if not self.take(":"):
                    then = self.expression()
                    self.expect(":")
                otherwise = self.expression()
                kind = types.choice(left.kind, then.kind, otherwise.kind)
                left = _Typed(operators.choice(left.node, then.node, otherwise.node), kind)
        return left

    def unary(self) -> _Typed:
        token = self.token
        if token.kind in ("name", "operator") and token.text in _UNARY:
            self.at += 1
            operand = self.expression(_UNARY[token.text])
            return _Typed(operators.unary(token.text, operand.node), types.unary(token.text, operand.kind))
        return self._postfix(self._primary())

    def _primary(self) -> _Typed:
        token = self.token
        if token.kind in ("number", "string"):
            self.at += 1
            return _constant(token.value)
        if token.kind == "name":
            return self._named()
        if self.take("("):
            node = self.expression()
            self.expect(")")
            return node
        if self.take("["):
            return _Typed(operators.array([item.node for item in self._list("]")]), types.LIST)
        if self.take("{"):
            return self._map()
        if token.text in ("#", ".") and self.predicates:
            self.at += token.text == "#"
            return _Typed(operators.element)
        raise ExpressionError(f"a value was expected, not '{token.text}'")

    def _name(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1].text

    def _named(self) -> _Typed:
        name = self._name()
        if name in _LITERALS:
            return _constant(_LITERALS[name])
        if self.token.text == "(" and self.token.kind == "operator":
            return self._call(name)
        if name in self.variables:
            return _Typed(operators.variable(name))
        if name in self.functions or name in BUILTINS or name in PREDICATES:
            raise ExpressionError(f"'{name}' is a function; '{name}()' was expected")
        raise ExpressionError(f"unknown name {name}")

    def _call(self, name: str, piped: _Typed | None = None) -> _Typed:
        """Parses a call. `piped` is the value before `|`, and becomes the first argument."""
        self.expect("(")
        if name in PREDICATES and name not in self.functions:
            return self._predicate(name, piped)
        arguments = [*(() if piped is None else (piped,)), *self._list(")")]
        nodes = [argument.node for argument in arguments]
        if name in self.functions:
            self.calls.add(name)
            kind = types.call(name, [argument.kind for argument in arguments])
            return _Typed(operators.call_variable(name, nodes), kind)
        if name not in BUILTINS:
            raise ExpressionError(f"unknown name {name}")
        return _Typed(operators.call(BUILTINS[name], nodes), types.BUILTIN_RESULTS.get(name, types.ANY))

    def _predicate(self, name: str, items: _Typed | None) -> _Typed:
        """Parses a call of a function whose arguments are a list and an optional predicate.

        `#` in the predicate is an element of the list.
        """
        if items is None:
            items = self.expression()
            if not self.take(","):
                self.expect(")")
                return self._applied(name, items, None)
        elif self.take(")"):
            return self._applied(name, items, None)
        self.predicates += 1
        braces = self.take("{")
        test = self.expression()
        if braces:
            self.expect("}")
        self.predicates -= 1
        self.expect(")")
        return self._applied(name, items, test)

    @staticmethod
    def _applied(name: str, items: _Typed, test: _Typed | None) -> _Typed:
        node = operators.apply_predicate(PREDICATES[name], items.node, None if test is None else test.node)
        return _Typed(node, types.BUILTIN_RESULTS.get(name, types.ANY))

    def _list(self, end: str) -> list[_Typed]:
        out: list[_Typed] = []
        while not self.take(end):
            if out:
                self.expect(",")
                if self.take(end):
                    break
            out.append(self.expression())
        return out

    def _map(self) -> _Typed:
        keys: list[Node] = []
        values: list[Node] = []
        while not self.take("}"):
            if keys:
                self.expect(",")
                if self.take("}"):
                    break
            token = self.token
            self.at += 1
            if token.kind == "operator" and token.text == "(":
                keys.append(self.expression().node)
                self.expect(")")
            elif token.kind in ("name", "string", "number"):
                keys.append(operators.constant(token.text if token.value is None else str(token.value)))
            else:
                raise ExpressionError(f"a key was expected, not '{token.text}'")
            self.expect(":")
            values.append(self.expression().node)
        return _Typed(operators.mapping(keys, values), types.MAP)

    def _postfix(self, found: _Typed) -> _Typed:
        while self.token.kind == "operator":
            if self.token.text in (".", "?."):
                optional = self._name() == "?."
                if self.token.kind != "name":
                    raise ExpressionError(f"a field was expected, not '{self.token.text}'")
                found = _Typed(operators.member(found.node, operators.constant(self._name()), optional=optional))
            elif self.take("["):
                found = _Typed(self._subscript(found.node))
            else:
                break
        return found

    def _subscript(self, node: Node) -> Node:
        start = None if self.token.text == ":" else self.expression().node
        if not self.take(":"):
            self.expect("]")
            assert start is not None
            return operators.member(node, start, optional=False)
        end = None if self.token.text == "]" else self.expression().node
        self.expect("]")
        return operators.part(node, start, end)


def _constant(value: Any) -> _Typed:
    kinds = {bool: types.BOOL, int: types.INT, float: types.FLOAT, str: types.STRING}
    return _Typed(operators.constant(value), kinds.get(type(value), types.NIL))
