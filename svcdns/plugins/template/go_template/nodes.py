"""The nodes of a parsed template. Each node writes its text when the template is rendered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from svcdns.plugins.template.go_template.functions import MAX_TEXT
from svcdns.plugins.template.go_template.operands import NO_ARGUMENTS, Operand, Rendering, constant, without_arguments
from svcdns.plugins.template.go_template.values import NO_VALUE, RenderError, to_text, truth


class Break(Exception):
    """Raised by `break` to end the innermost `range`."""


class Continue(Exception):
    """Raised by `continue` to end one iteration of the innermost `range`."""


class Node(Protocol):
    """A part of a parsed template: plain text or an action."""

    def render(self, rendering: Rendering, dot: Any) -> None:
        """Writes the text of the node. `dot` is the value of `.`."""
        ...


def render(nodes: tuple[Node, ...], rendering: Rendering, dot: Any) -> None:
    """Writes nodes in order. Variables that the nodes declare are removed afterwards."""
    depth = len(rendering.variables)
    for node in nodes:
        node.render(rendering, dot)
    del rendering.variables[depth:]


@dataclass(frozen=True, slots=True)
class Command:
    """An operand with its arguments.

    For the functions `and` and `or`, `lazy` is the name of the function, and arguments are evaluated only as needed.
    Otherwise `lazy` is empty.
    """

    first: Operand
    arguments: tuple[Operand, ...] = ()
    lazy: str = ""

    def value(self, rendering: Rendering, dot: Any, piped: list[Any]) -> Any:
        """Returns the value of the command.

        `piped` has the value of the previous command in the pipeline, if there is one. This value becomes the last
        argument.
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
    """A sequence of commands. The value of a command is the last argument of the next one.

    The value of the last command is assigned to `variables`, if there are any. If `declares` is true, the variables are
    new.
    """

    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    declares: bool = False

    def value(self, rendering: Rendering, dot: Any) -> Any:
        """Returns the value of the last command, and assigns it if the pipeline has exactly one variable."""
        piped: list[Any] = []
        for command in self.commands:
            piped = [command.value(rendering, dot, piped)]
        if len(self.variables) == 1:
            self.assign(rendering, self.variables[0], piped[0])
        return piped[0]

    def assign(self, rendering: Rendering, name: str, value: Any) -> None:
        """Declares a variable, or changes the value of an existing one."""
        if self.declares:
            rendering.variables.append([name, value])
        else:
            rendering.find(name)[1] = value


def parenthesized(pipeline: Pipeline) -> Operand:
    """Returns the operand for a pipeline in parentheses."""

    def operand(rendering: Rendering, dot: Any, arguments: list[Any]) -> Any:
        return without_arguments(pipeline.value(rendering, dot), arguments)

    return operand


@dataclass(frozen=True, slots=True)
class PlainText:
    """The text of a template outside of its actions (`{{ }}`)."""

    text: str

    def render(self, rendering: Rendering, dot: Any) -> None:  # noqa: ARG002 - does not depend on it
        """Writes the text."""
        rendering.write(self.text)


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose value is written, unless it is assigned to a variable."""

    pipeline: Pipeline

    def render(self, rendering: Rendering, dot: Any) -> None:
        """Writes the value of the pipeline, unless it is assigned to a variable."""
        value = self.pipeline.value(rendering, dot)
        if not self.pipeline.variables:
            rendering.write(to_text(value))


@dataclass(frozen=True, slots=True)
class Branch:
    """An action `if` or `with`.

    If `sets_dot` is true, as for `with`, the pipeline's value becomes `.` in the body.
    """

    pipeline: Pipeline
    body: tuple[Node, ...]
    else_body: tuple[Node, ...]
    sets_dot: bool

    def render(self, rendering: Rendering, dot: Any) -> None:
        """Writes the body if the pipeline's value is true, otherwise `else_body`."""
        depth = len(rendering.variables)
        value = self.pipeline.value(rendering, dot)
        if truth(value):
            render(self.body, rendering, value if self.sets_dot else dot)
        else:
            render(self.else_body, rendering, dot)
        del rendering.variables[depth:]


@dataclass(frozen=True, slots=True)
class Range:
    """An action `range` over a list, over the values of a map in the order of its keys, or over a range of numbers."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    else_body: tuple[Node, ...]

    def render(self, rendering: Rendering, dot: Any) -> None:
        """Writes the body for each element, or `else_body` if there are no elements."""
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
    """An action `break` or `continue`."""

    kind: type[Break | Continue]

    def render(self, rendering: Rendering, dot: Any) -> None:  # noqa: ARG002 - writes nothing
        """Ends the innermost `range` (`break`), or one iteration of it (`continue`)."""
        raise self.kind


def _items(value: Any) -> list[tuple[Any, Any]]:
    """Returns the keys and elements of a value for `range`. Raises RenderError."""
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        if value > MAX_TEXT:
            raise RenderError(f"range over {value}")
        return [(number, number) for number in range(value)]
    raise RenderError(f"range can't iterate over {to_text(value)}")
