"""A span that tests give to a query."""

from __future__ import annotations

from collections.abc import Mapping


class KeptSpan:
    """A span that keeps the spans inside it."""

    trace = "1"

    def __init__(self, name: str = "forward", tags: Mapping[str, str] | None = None) -> None:
        self.name, self.tags, self.ended = name, tags or {}, False
        self.inner: list[KeptSpan] = []

    def child(self, name: str, tags: Mapping[str, str] | None = None) -> KeptSpan:
        self.inner.append(KeptSpan(name, tags))
        return self.inner[-1]

    def end(self) -> None:
        self.ended = True

    def shown(self) -> list[tuple[str, str]]:
        """Returns the names and upstreams of the inner spans that have ended."""
        return [(one.name, one.tags["peer.address"]) for one in self.inner if one.ended]
