"""The interface between control and the sources of changes: API servers and manifests.

`api.source` and `manifests.source` implement it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from svcdns.cluster.changes import Change, Kind
from svcdns.sources.snapshot_file import Origin


class ChangeSource(Protocol):
    """Reports the changes of a cluster, which an API server or manifests describe."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that the source lists."""
        ...

    @property
    def is_unreachable(self) -> bool:
        """True if the last request to the API server got no response."""
        ...

    async def configure(self) -> None:
        """Reads and checks the source's configuration. Raises SourceError."""
        ...

    def ages(self) -> dict[Kind, float]:
        """Returns, by kind, the seconds since the source last confirmed its objects of that kind.

        No value is infinite.
        """
        ...

    async def origin(self) -> Origin:
        """Returns the identity of the cluster. Raises SourceError if the source has none."""
        ...

    def assume(self, age: float) -> None:
        """Sets the age, in seconds, of objects that come from a snapshot. Call it before the first lists."""
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Yields every change from now on, starting with a full list of each kind. Ends only when cancelled."""
        ...
