"""The nodes of a template: the parsed form of its text and actions, which a rendering writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from svcdns.plugins.template.go_template.functions import MAX_TEXT
from svcdns.plugins.template.go_template.operands import NO_ARGUMENTS, Operand, Rendering, constant, without_arguments
from svcdns.plugins.template.go_template.values import NO_VALUE, RenderError, to_text, truth


class Break(Exception):
    """`break`: ends the innermost `range`."""


class Continue(Exception):
    """`continue`: ends one iteration of the innermost `range`."""


class Node(Protocol):
    """A part of a template."""

    def render(self, rendering: Rendering, dot: Any) -> None:
        """Writes the text of the node. `dot` is the value of `.`."""
        ...


def render(nodes: tuple[Node, ...], rendering: Rendering, dot: Any) -> None:
    """Writes nodes in order. Variables that they declare end with them."""
    depth = len(rendering.variables)
    for node in nodes:
        node.render(rendering, dot)
    del rendering.variables[depth:]


@dataclass(frozen=True, slots=True)
class Command:
    """An operand with its arguments. `lazy` is `and`, `or`, or empty."""

    first: Operand
    arguments: tuple[Operand, ...] = ()
    lazy: str = ""

    def value(self, rendering: Rendering, dot: Any, piped: list[Any]) -> Any:
        """The value.

        `piped` has the value of the command before it in the pipeline, if there is one: the last argument.
        """
        if self.lazy:
            return self._lazy_value(rendering, dot, piped)
        return self.first(
            rendering, dot, [*(argument(rendering, dot, NO_ARGUMENTS) for argument in self.arguments), *piped]
        )

    def _lazy_value(self, rendering: Rendering, dot: Any, piped: list[Any]) -> Any:
        value: Any = NO_VALUE
        arguments: list[Operand] = [*self.arguments, *(constant(one) for one in piped)]
        if not arguments:
            raise RenderError(f"{self.lazy} needs an argument")
        for argument in arguments:
            value = argument(rendering, dot, NO_ARGUMENTS)
            if truth(value) == (self.lazy == "or"):
                break
        return value


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each with the value of the one before it as its last argument.

    The value is assigned to the variables, if there are any. `declares` is true if the variables are new.
    """

    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    declares: bool = False

    def value(self, rendering: Rendering, dot: Any) -> Any:
        """The value of the last command. Assigns it if there is one variable; `range` has two."""
        piped: list[Any] = []
        for command in self.commands:
            piped = [command.value(rendering, dot, piped)]
        if len(self.variables) == 1:
            self.assign(rendering, self.variables[0], piped[0])
        return piped[0]

    def assign(self, rendering: Rendering, name: str, value: Any) -> None:
        """Declares a variable, or changes its value."""
        if self.declares:
            rendering.variables.append([name, value])
        else:
            rendering.find(name)[1] = value


def parenthesized(pipeline: Pipeline) -> Operand:
    """The operand for a pipeline in parentheses."""

    def operand(rendering: Rendering, dot: Any, arguments: list[Any]) -> Any:
        return without_arguments(pipeline.value(rendering, dot), arguments)

    return operand


@dataclass(frozen=True, slots=True)
class PlainText:
    """Text outside of actions."""

    text: str

    def render(self, rendering: Rendering, dot: Any) -> None:  # noqa: ARG002 - does not depend on it
        """Writes the text."""
        rendering.write(self.text)


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline. Its value is written unless it is assigned to a variable."""

    pipeline: Pipeline

    def render(self, rendering: Rendering, dot: Any) -> None:
        """Writes the value."""
        value = self.pipeline.value(rendering, dot)
        if not self.pipeline.variables:
            rendering.write(to_text(value))


@dataclass(frozen=True, slots=True)
class Branch:
    """`if` and `with`. With `sets_dot`, the value of the pipeline becomes `.` in the body: that is `with`."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    else_body: tuple[Node, ...]
    sets_dot: bool

    def render(self, rendering: Rendering, dot: Any) -> None:
        """Writes the body if the value is true, `else_body` otherwise."""
        depth = len(rendering.variables)
        value = self.pipeline.value(rendering, dot)
        if truth(value):
            render(self.body, rendering, value if self.sets_dot else dot)
        else:
            render(self.else_body, rendering, dot)
        del rendering.variables[depth:]


@dataclass(frozen=True, slots=True)
class Range:
    """`range` over a list, a map in the order of its keys, or the numbers from 0 below a number."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    else_body: tuple[Node, ...]

    def render(self, rendering: Rendering, dot: Any) -> None:
        """Writes the body for each element, `else_body` if there is none."""
        depth = len(rendering.variables)
        items = _items(Pipeline(self.pipeline.commands).value(rendering, dot))
        for key, item in items:
            inner = len(rendering.variables)
            names = self.pipeline.variables
            for name, value in zip(names, (item,) if len(names) == 1 else (key, item), strict=False):
                self.pipeline.assign(rendering, name, value)
            try:
                render(self.body, rendering, item)
            except Continue:
                continue
            except Break:
                break
            finally:
                del rendering.variables[inner:]
        if not items:
            render(self.else_body, rendering, dot)
        del rendering.variables[depth:]


@dataclass(frozen=True, slots=True)
class LoopControl:
    """`break` or `continue`."""

    kind: type[Break | Continue]

    def render(self, rendering: Rendering, dot: Any) -> None:  # noqa: ARG002 - writes nothing
        """Ends the body of the innermost `range`."""
        raise self.kind


def _items(value: Any) -> list[tuple[Any, Any]]:
    """Keys and elements of a value that `range` goes through. Raises RenderError."""
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        if value > MAX_TEXT:
            raise RenderError(f"range over {value}")
        return [(number, number) for number in range(value)]
    raise RenderError(f"range can't iterate over {to_text(value)}")
