"""How old what is known is: for each kind, when the API server last confirmed it.

A complete list confirms a kind, and so does a watch that goes on from the last version seen, with each of its events and bookmarks. A page
of a list that is not through confirms nothing. A server with nothing to tell sends a bookmark about once a minute, or the watch is opened
anew after 90 s, so ages up to 90 s are those of a quiet cluster. Only the monotonic clock is used: a wall clock that jumps changes no age.
"""

from __future__ import annotations

from collections.abc import Iterable

from svcdns.cluster.changes import Kind
from svcdns.eventloop.clock import Clock


class Freshness:
    """The moment of the last confirmation of each kind; before there is one, the moment from which its age is counted."""

    def __init__(self, kinds: Iterable[Kind], clock: Clock) -> None:
        """Ages count from now."""
        self._clock = clock
        self._confirmed = dict.fromkeys(kinds, clock())

    def confirm(self, kind: Kind) -> None:
        """The API server said how things are now."""
        self._confirmed[kind] = self._clock()

    def confirmed(self, kind: Kind) -> float:
        """The moment of the last confirmation, for `take_back`."""
        return self._confirmed[kind]

    def take_back(self, kind: Kind, confirmed: float) -> None:
        """What confirmed the kind was none: a watch that opened, only to say that its version is too old."""
        self._confirmed[kind] = confirmed

    def assume(self, age: float) -> None:
        """What is known comes from elsewhere, a snapshot for instance, and was confirmed `age` seconds ago."""
        self._confirmed = dict.fromkeys(self._confirmed, self._clock() - age)

    def ages(self) -> dict[Kind, float]:
        """Seconds since each kind was confirmed."""
        now = self._clock()
        return {kind: max(0.0, now - at) for kind, at in self._confirmed.items()}
