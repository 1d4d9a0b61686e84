"""The age of the known objects: for each kind, the time since the API server last confirmed the objects of that kind.

A complete list confirms a kind. So does the start of a watch from the last version, and each event and bookmark of a
watch. A page of an incomplete list does not confirm it. A server without changes sends a bookmark about once a minute,
else the watch is opened again after 90 s. So ages up to 90 s are normal in a quiet cluster. Only the monotonic clock is
used, so that a step of the wall clock changes no age.
"""

from __future__ import annotations

from collections.abc import Iterable

from svcdns.cluster.changes import Kind
from svcdns.eventloop.clock import Clock


class Freshness:
    """Stores, for each kind of object, when the API server last confirmed that the known objects are up to date.

    Before the first confirmation, the age of a kind counts from the creation of this object. `assume` can change that.
    """

    def __init__(self, kinds: Iterable[Kind], clock: Clock) -> None:
        """Sets the age of the objects of each kind to 0."""
        self._clock = clock
        self._confirmed = dict.fromkeys(kinds, clock())
        self._unknown = set(self._confirmed)

    @property
    def is_known(self) -> bool:
        """True if the objects of every kind are known, from a complete list or from a snapshot (`assume`)."""
        return not self._unknown

    def confirm(self, kind: Kind) -> None:
        """Records that the API server has just confirmed that the known objects of this kind are up to date."""
        self._confirmed[kind] = self._clock()
        self._unknown.discard(kind)

    def confirmed(self, kind: Kind) -> float:
        """Returns the time at which the API server last confirmed the objects of a kind. The value can be passed to
        `restore`.
        """
        return self._confirmed[kind]

    def restore(self, kind: Kind, confirmed: float) -> None:
        """Sets the last confirmation of a kind back to a time that `confirmed` returned earlier.

        The opening of a watch counts as a confirmation. Call this method if the watch then reports that its version is
        too old.
        """
        self._confirmed[kind] = confirmed

    def assume(self, age: float) -> None:
        """Sets the age, in seconds, of the objects of all kinds. Call it, for example, if the objects come from a
        snapshot.
        """
        self._confirmed = dict.fromkeys(self._confirmed, self._clock() - age)
        self._unknown.clear()

    def ages(self) -> dict[Kind, float]:
        """Returns, for each kind of object, the seconds since the API server last confirmed the objects of that
        kind.
        """
        now = self._clock()
        return {kind: max(0.0, now - at) for kind, at in self._confirmed.items()}
