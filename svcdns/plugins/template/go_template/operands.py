"""The operands of a template. An operand is a function that computes a value while the template is rendered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svcdns.plugins.template.go_template.functions import FUNCTIONS, LAZY, MAX_TEXT
from svcdns.plugins.template.go_template.values import RenderError, Struct, field, to_text


class Rendering:
    """The state while a template is rendered: the text so far, and the variables, of which the innermost is last."""

    __slots__ = ("out", "size", "variables")

    def __init__(self, root: Any) -> None:
        self.out: list[str] = []
        self.size = 0
        self.variables: list[list[Any]] = [["$", root]]

    def write(self, text: str) -> None:
        """Appends text. Raises RenderError if the whole text is longer than MAX_TEXT."""
        self.size += len(text)
        if self.size > MAX_TEXT:
            raise RenderError(f"more than {MAX_TEXT} characters")
        self.out.append(text)

    def find(self, name: str) -> list[Any]:
        """Returns the innermost variable with that name, as a pair of name and value."""
        return next(variable for variable in reversed(self.variables) if variable[0] == name)


Operand = Callable[[Rendering, Any, list[Any]], Any]
"""Computes a value. The parameters are the rendering, the value of `.`, and the arguments.

Only an operand that is a function has arguments.
"""

NO_ARGUMENTS: list[Any] = []


def constant(value: Any) -> Operand:
    """Returns the operand for a literal."""

    def operand(_rendering: Rendering, _dot: Any, arguments: list[Any]) -> Any:
        return without_arguments(value, arguments)

    return operand


def dot_operand(_rendering: Rendering, dot: Any, arguments: list[Any]) -> Any:
    """Returns the value of `.`."""
    return without_arguments(dot, arguments)


def variable(name: str) -> Operand:
    """Returns the operand for a variable."""

    def operand(rendering: Rendering, _dot: Any, arguments: list[Any]) -> Any:
        return without_arguments(rendering.find(name)[1], arguments)

    return operand


def fields(start: Operand, names: tuple[str, ...]) -> Operand:
    """Returns the operand for a chain of fields, such as `.A.B`.

    `start` is the operand before the fields. If the last field is a function, it is called with the operand's
    arguments.
    """

    def operand(rendering: Rendering, dot: Any, arguments: list[Any]) -> Any:
        value = start(rendering, dot, NO_ARGUMENTS)
        last = len(names) - 1
        for index, name in enumerate(names):
            value = field(value, name)
            if callable(value):
                value = _call(value, arguments if index == last else NO_ARGUMENTS)
            elif arguments and index == last:
                raise RenderError(f"{name} has arguments but is not a function")
        return value

    return operand


def function(name: str) -> Operand:
    """Returns the operand that calls the template function `name`."""
    if name in LAZY:  # `nodes.Command` evaluates these functions; used as an operand, they have no arguments
        return lambda _rendering, _dot, _arguments: _call(_raise_missing_argument, [name])
    called = FUNCTIONS[name]
    return lambda _rendering, _dot, arguments: _call(called, arguments)


def without_arguments(value: Any, arguments: list[Any]) -> Any:
    """Returns `value`, which must not be a function. Raises RenderError if there are arguments."""
    if arguments:
        raise RenderError(f"can't give arguments to {'a struct' if isinstance(value, Struct) else to_text(value)}")
    return value


def _raise_missing_argument(name: str) -> Any:
    raise RenderError(f"{name} needs an argument")


def _call(called: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return called(*arguments)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise RenderError(str(error)) from error
