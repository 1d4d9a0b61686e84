"""The seam between control and the sources of changes: what an API server and manifests have in common.

It has no code of its own; `api.source` and `manifests.source` implement it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from svcdns.cluster.changes import Change, Kind
from svcdns.sources.snapshot_file import Origin


class ChangeSource(Protocol):
    """Gives the changes of a cluster: from an API server, or from manifests."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds whose lists the source completes."""
        ...

    @property
    def is_unreachable(self) -> bool:
        """Whether the last request to an API server got no answer."""
        ...

    async def configure(self) -> None:
        """Reads the configuration and checks it. Raises SourceError."""
        ...

    def ages(self) -> dict[Kind, float]:
        """Seconds since each kind was last confirmed; always finite."""
        ...

    async def origin(self) -> Origin:
        """The identity of the cluster. Raises SourceError where it has none."""
        ...

    def assume(self, age: float) -> None:
        """The objects known before the first lists come from elsewhere and are `age` seconds old."""
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Every change from now on, starting with a full list of each kind. Ends only when cancelled."""
        ...
