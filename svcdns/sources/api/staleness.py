"""The age of the known objects: for each kind, the time since the API server last confirmed it.

A complete list confirms a kind, and so does a watch from the last version, with each of its events and bookmarks. A
page of an incomplete list does not. A server without changes sends a bookmark about once a minute, or the watch is
opened again after 90 s. So ages up to 90 s are normal in a quiet cluster. Only the monotonic clock is used, so that a
step of the wall clock changes no age.
"""

from __future__ import annotations

from collections.abc import Iterable

from svcdns.cluster.changes import Kind
from svcdns.eventloop.clock import Clock


class Freshness:
    """The moment of the last confirmation of each kind; before the first one, the moment from which its age counts."""

    def __init__(self, kinds: Iterable[Kind], clock: Clock) -> None:
        """Ages count from now."""
        self._clock = clock
        self._confirmed = dict.fromkeys(kinds, clock())

    def confirm(self, kind: Kind) -> None:
        """The API server has confirmed the kind now."""
        self._confirmed[kind] = self._clock()

    def confirmed(self, kind: Kind) -> float:
        """The moment of the last confirmation, for `restore`."""
        return self._confirmed[kind]

    def restore(self, kind: Kind, confirmed: float) -> None:
        """Takes a confirmation back: the watch opened, but only to report that its version is too old."""
        self._confirmed[kind] = confirmed

    def assume(self, age: float) -> None:
        """All known objects were confirmed `age` seconds ago: they come from elsewhere, such as a snapshot."""
        self._confirmed = dict.fromkeys(self._confirmed, self._clock() - age)

    def ages(self) -> dict[Kind, float]:
        """Seconds since each kind was confirmed."""
        now = self._clock()
        return {kind: max(0.0, now - at) for kind, at in self._confirmed.items()}
