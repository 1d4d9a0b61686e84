"""A template as a tree of nodes that can be rendered; each writes to, or reads from, a `Run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from svcdns.plugins.template.go_template.errors import RenderError
from svcdns.plugins.template.go_template.functions import FUNCTIONS, LAZY, MAX_TEXT
from svcdns.plugins.template.go_template.values import NO_VALUE, Struct, field, shown, truth


class Break(Exception):
    """`break`."""


class Continue(Exception):
    """`continue`."""


class Run:
    """One rendering: the text so far, and the variables with their values, innermost last."""

    __slots__ = ("out", "size", "variables")

    def __init__(self, root: Any) -> None:
        self.out: list[str] = []
        self.size = 0
        self.variables: list[list[Any]] = [["$", root]]

    def write(self, text: str) -> None:
        """Adds to the text. Raises RenderError where it is more than anybody could need."""
        self.size += len(text)
        if self.size > MAX_TEXT:
            raise RenderError(f"more than {MAX_TEXT} characters")
        self.out.append(text)

    def find(self, name: str) -> list[Any]:
        """The innermost variable of that name; the parser has seen that there is one."""
        return next(variable for variable in reversed(self.variables) if variable[0] == name)


class Node(Protocol):
    """Something in a text."""

    def render(self, run: Run, dot: Any) -> None:
        """Writes what it stands for; `dot` is the value of `.`."""
        ...


Operand = Callable[[Run, Any, list[Any]], Any]
"""Works a value out: the run, the dot, and arguments for it if it is a function."""

NO_ARGUMENTS: list[Any] = []


@dataclass(frozen=True, slots=True)
class Command:
    """An operand, and the operands that it is called with."""

    first: Operand
    arguments: tuple[Operand, ...] = ()
    lazy: str = ""

    def value(self, run: Run, dot: Any, last: list[Any]) -> Any:
        """Its value; `last` has what the pipeline's command before it gave, or nothing."""
        if self.lazy:
            return self._lazily(run, dot, last)
        return self.first(run, dot, [*(argument(run, dot, NO_ARGUMENTS) for argument in self.arguments), *last])

    def _lazily(self, run: Run, dot: Any, last: list[Any]) -> Any:
        value: Any = NO_VALUE
        waiting: list[Operand] = [*self.arguments, *(fixed(one) for one in last)]
        if not waiting:
            raise RenderError(f"{self.lazy} needs an argument")
        for argument in waiting:
            value = argument(run, dot, NO_ARGUMENTS)
            if truth(value) == (self.lazy == "or"):
                break
        return value


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each given what the one before it gave; the value goes into the variables, newly declared or not."""

    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    declares: bool = False

    def value(self, run: Run, dot: Any) -> Any:
        """The value, put into the variable if there is one."""
        last: list[Any] = []
        for command in self.commands:
            last = [command.value(run, dot, last)]
        if len(self.variables) == 1:
            self.assign(run, self.variables[0], last[0])
        return last[0]

    def assign(self, run: Run, name: str, value: Any) -> None:
        """Declares a variable, or sets one."""
        if self.declares:
            run.variables.append([name, value])
        else:
            run.find(name)[1] = value


@dataclass(frozen=True, slots=True)
class SimpleReply:
    """Text as it is."""

    text: str

    def render(self, run: Run, dot: Any) -> None:  # noqa: ARG002 - always the same
        """Writes it."""
        run.write(self.text)


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose value is written, unless it goes into a variable."""

    pipeline: Pipeline

    def render(self, run: Run, dot: Any) -> None:
        """Writes the value."""
        value = self.pipeline.value(run, dot)
        if not self.pipeline.variables:
            run.write(shown(value))


@dataclass(frozen=True, slots=True)
class Branch:
    """`if` and `with`; `moves` says that the value becomes the dot."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    moves: bool

    def render(self, run: Run, dot: Any) -> None:
        """Writes the one or the other body."""
        depth = len(run.variables)
        value = self.pipeline.value(run, dot)
        if truth(value):
            render(self.body, run, value if self.moves else dot)
        else:
            render(self.otherwise, run, dot)
        del run.variables[depth:]


@dataclass(frozen=True, slots=True)
class Range:
    """`range` over a list, a map in the order of its keys, or the numbers below a number."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]

    def render(self, run: Run, dot: Any) -> None:
        """Writes the body for each element, or the other one where there is none."""
        depth = len(run.variables)
        items = _items(Pipeline(self.pipeline.commands).value(run, dot))
        for key, item in items:
            inner = len(run.variables)
            names = self.pipeline.variables
            for name, value in zip(names, (item,) if len(names) == 1 else (key, item), strict=False):
                self.pipeline.assign(run, name, value)
            try:
                render(self.body, run, item)
            except Continue:
                continue
            except Break:
                break
            finally:
                del run.variables[inner:]
        if not items:
            render(self.otherwise, run, dot)
        del run.variables[depth:]


@dataclass(frozen=True, slots=True)
class Leave:
    """`break` or `continue`."""

    how: type[Break | Continue]

    def render(self, run: Run, dot: Any) -> None:  # noqa: ARG002 - leaves
        """Leaves the body."""
        raise self.how


def render(nodes: tuple[Node, ...], run: Run, dot: Any) -> None:
    """Writes nodes one after the other; variables of theirs end with them."""
    depth = len(run.variables)
    for node in nodes:
        node.render(run, dot)
    del run.variables[depth:]


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        if value > MAX_TEXT:
            raise RenderError(f"range over {value}")
        return [(at, at) for at in range(value)]
    raise RenderError(f"range can't iterate over {shown(value)}")


# -- operands


def fixed(value: Any) -> Operand:
    """Always the same value."""

    def operand(_run: Run, _dot: Any, arguments: list[Any]) -> Any:
        return _plain(value, arguments)

    return operand


def dot_itself(_run: Run, dot: Any, arguments: list[Any]) -> Any:
    """`.`."""
    return _plain(dot, arguments)


def variable(name: str) -> Operand:
    """A variable's value."""

    def operand(run: Run, _dot: Any, arguments: list[Any]) -> Any:
        return _plain(run.find(name)[1], arguments)

    return operand


def fields(start: Operand, names: tuple[str, ...]) -> Operand:
    """A field of a field of a value; the last one may be a function."""

    def operand(run: Run, dot: Any, arguments: list[Any]) -> Any:
        value = start(run, dot, NO_ARGUMENTS)
        for at, name in enumerate(names):
            value = field(value, name)
            if callable(value):
                value = _called(value, arguments if at == len(names) - 1 else NO_ARGUMENTS)
            elif arguments and at == len(names) - 1:
                raise RenderError(f"{name} has arguments but is not a function")
        return value

    return operand


def inner(pipeline: Pipeline) -> Operand:
    """A pipeline in parentheses."""

    def operand(run: Run, dot: Any, arguments: list[Any]) -> Any:
        return _plain(pipeline.value(run, dot), arguments)

    return operand


def function(name: str) -> Operand:
    """A function by name."""
    if name in LAZY:  # a command by itself is worked out by its command
        return lambda _run, _dot, _arguments: _called(_without_arguments, [name])
    work = FUNCTIONS[name]
    return lambda _run, _dot, arguments: _called(work, arguments)


def _without_arguments(name: str) -> Any:
    raise RenderError(f"{name} needs an argument")


def _called(work: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return work(*arguments)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise RenderError(str(error)) from error


def _plain(value: Any, arguments: list[Any]) -> Any:
    if arguments:
        raise RenderError(f"can't give arguments to {'a struct' if isinstance(value, Struct) else shown(value)}")
    return value
