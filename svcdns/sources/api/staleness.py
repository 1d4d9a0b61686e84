"""The age of the known objects: the time since the API server last confirmed them, for each kind of object.

A complete list confirms a kind. So do the start of a watch from the last version, and each event and bookmark of a
watch. An incomplete list confirms nothing. In a quiet cluster, ages up to 90 s are normal. The monotonic clock is used.
"""

from __future__ import annotations

from collections.abc import Iterable

from svcdns.cluster.changes import Kind
from svcdns.eventloop.clock import Clock


class Freshness:
    """The time of the last confirmation by the API server, for each kind of object.

    Before the first confirmation, the age of a kind counts from the creation of this object, or from a call of
    `assume`.
    """

    def __init__(self, kinds: Iterable[Kind], clock: Clock) -> None:
        """Sets the age of the objects of each kind to 0."""
        self._clock = clock
        self._confirmed = dict.fromkeys(kinds, clock())
        self._unknown = set(self._confirmed)

    @property
    def is_known(self) -> bool:
        """Returns True if the objects of every kind are known, from a complete list or from a snapshot (`assume`)."""
        return not self._unknown

    def confirm(self, kind: Kind) -> None:
        """Records that the API server has now confirmed the known objects of this kind."""
        self._confirmed[kind] = self._clock()
        self._unknown.discard(kind)

    def confirmed(self, kind: Kind) -> float:
        """Returns the time at which the API server last confirmed the objects of a kind.

        The result is for `restore`.
        """
        return self._confirmed[kind]

    def restore(self, kind: Kind, confirmed: float) -> None:
        """Sets the last confirmation of a kind back to the time `confirmed`, an earlier result of the method
        `confirmed`.

        Call it if a watch was opened, which counts as a confirmation, but then reports that its version is too old.
        """
        self._confirmed[kind] = confirmed

    def assume(self, age: float) -> None:
        """Sets the age, in seconds, of the objects of all kinds. Call it if the objects come from a snapshot."""
        self._confirmed = dict.fromkeys(self._confirmed, self._clock() - age)
        self._unknown.clear()

    def ages(self) -> dict[Kind, float]:
        """Returns the seconds since the API server last confirmed the objects, by kind of object."""
        now = self._clock()
        return {kind: max(0.0, now - at) for kind, at in self._confirmed.items()}
