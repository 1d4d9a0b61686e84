"""The letter case of query names, as the first clients sent the names.

The cold path sets a spelling for each new name, so both methods take a fraction of a microsecond.
"""

from __future__ import annotations

from svcdns.plugin_api.fast_path import Key

Spelling = tuple[bytes, float]
"""A name in the letter case of the first client's query.

Until the time in the second item, answers from the cluster are sent with the name in this letter case.
"""


class Spellings:
    """The newest spellings by key. If there are more than `capacity`, the older half is dropped."""

    __slots__ = ("_half", "_newer", "_older")

    def __init__(self, capacity: int) -> None:
        self._half = max(1, capacity // 2)
        self._newer: dict[Key, Spelling] = {}
        self._older: dict[Key, Spelling] = {}

    def __contains__(self, key: Key) -> bool:
        """Returns True if there is a spelling for the key, expired or not."""
        return key in self._newer or key in self._older

    def __len__(self) -> int:
        """Returns the number of spellings. A key with a renewed spelling may count twice."""
        return len(self._newer) + len(self._older)

    def get(self, key: Key, now: float) -> Spelling | None:
        """Returns the spelling for a key, or None if there is none that is valid at `now`."""
        found = self._newer.get(key) or self._older.get(key)
        return found if found is not None and found[1] > now else None

    def set(self, key: Key, name: bytes, until: float) -> None:
        """Adds a spelling, or replaces the spelling of the same key."""
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, {}
        self._newer[key] = (name, until)
