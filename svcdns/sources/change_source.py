"""The interface between the control process and the sources of changes.

`api.source` and `manifests.source` implement it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from svcdns.cluster.changes import Change, Kind
from svcdns.sources.snapshot_file import Origin

Apply = Callable[[Iterable[Change]], Awaitable[None] | None]
"""Applies changes in their order. Returns an awaitable if they take long: it applies the rest.

Changes of one kind are passed one call after the other; calls for different kinds may overlap.
"""


class ChangeSource(Protocol):
    """Reports the changes of a cluster, from an API server or from manifests."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Returns the kinds of objects that the source reports, such as Service and EndpointSlice."""
        ...

    @property
    def is_unreachable(self) -> bool:
        """Returns True if the last request to the API server got no response."""
        ...

    async def configure(self) -> None:
        """Reads and checks the source's configuration. Raises SourceError."""
        ...

    def ages(self) -> dict[Kind, float]:
        """Returns the seconds since the source last confirmed the objects, by kind of object.

        Before the first confirmation, the time counts from the creation of the source.
        """
        ...

    async def origin(self) -> Origin:
        """Returns the identity of the cluster. Raises SourceError if the source has none."""
        ...

    def assume(self, age: float) -> None:
        """Sets the age, in seconds, of objects that come from a snapshot. Call it before the first list request.

        The results of `ages` begin with this age.
        """
        ...

    async def follow(self, apply: Apply) -> None:
        """Passes every change to `apply`, beginning with a full list of each kind of object.

        Ends only when cancelled.
        """
        ...
