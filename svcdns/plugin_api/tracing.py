"""The parts of traces that plugins and the core use: the sampler of a server block, and the spans of a traced query.

The plugin *trace* makes both (docs/plugins/trace.md). A query that is not traced has no span (`Query.span` is None).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

HeaderFields = Sequence[tuple[bytes, bytes]]
"""Header fields of an HTTP request, with names in lower case."""


class Span(Protocol):
    """One step of a traced query, such as the work of a plugin. The step begins when the object is made."""

    tags: Mapping[str, str]
    """Texts that describe the step, by name. They are read after the span has ended."""

    @property
    def trace(self) -> str:
        """Returns the identifier of the trace, as text."""
        ...

    def child(self, name: str, tags: Mapping[str, str] | None = None) -> Span:
        """Begins a span inside this span."""
        ...

    def end(self) -> None:
        """Ends the span. Only spans that have ended are exported. Later calls have no effect."""
        ...


class Sampler:
    """Chooses every n-th query of a server block. A chosen query is not answered without the plugin chain.

    - `left` is the number of queries up to and including the next chosen query.
    - `chosen` is True if the next query that reaches the plugin *trace* is to be traced. `headers` has the fields of
      its HTTP request that belong to a trace.
    - `in_chain` is True if the plugin itself counts the queries that reach it. Otherwise the core counts all queries.
    - `following` is the rest of the plugin chain with a span for each plugin. The core sets it.
    """

    __slots__ = ("chosen", "every", "following", "headers", "in_chain", "left")

    def __init__(self, every: int) -> None:
        """`every` is at least 1."""
        self.every = self.left = every
        self.chosen = self.in_chain = False
        self.headers: HeaderFields = ()
        self.following: Callable[[Any], Any] | None = None

    def take(self) -> bool:
        """Counts one query. Returns True if it is chosen."""
        self.left -= 1
        if self.left:
            return False
        self.left = self.every
        return True
