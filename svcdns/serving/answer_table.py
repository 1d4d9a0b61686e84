"""The answer table: maps the octets of a query packet to an encoded reply.

The key is the packet without its message id. On a listener with client classes, the client class precedes the packet.
An entry is the reply without its message id, in one or more orders of its records (rotations). A reply is stored when
its key is asked for the second time, so that names asked for once take no memory. An entry is removed when a change
affects one of its dependencies, when its deadline passes, or when its generation is discarded.

The table has a current and a previous generation. It starts a new generation when the current one takes half of the
budget, and then discards the previous one. So the memory of the table is bounded, whatever clients ask. TTLs that count
down are brought up to date when an entry is asked for, at most once a second.

Rules:

1. An entry is never served again after `invalidate` was called with one of its dependencies. If this affects few
   entries, they are dropped at once. If it affects many, all entries become a previous generation, and each entry is
   checked when it is asked for. So no packet waits until all of them are removed.
2. An entry and its keys in the index of dependencies are added in one step.
3. The entries of a discarded ("retired") generation are freed a few at a time: some with each new entry, the rest by
   `purge`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Final

from svcdns.chain.routing import Route
from svcdns.cluster.changes import Dependency
from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.rate_limit import LimitedReply
from svcdns.plugin_api.reply import Reply
from svcdns.serving.metrics import HitCounter
from svcdns.serving.negative_answers import NegativeAnswers
from svcdns.serving.seen_filter import SeenFilter
from svcdns.wire.ttl import aged

ENTRY_COST: Final = 450
"""The octets of memory that an entry takes, without its key and replies. Includes the dependency index.

A test checks it.
"""
FILTER_SHARE: Final = 8
"""The filter of keys seen once (`SeenFilter`) takes at most one part in FILTER_SHARE of the budget."""
PURGE_STEP: Final = 8
"""The most entries that one step frees from retired (discarded) generations."""
PURGE_KEYS_STEP: Final = 128
"""The most keys that one step frees from discarded sets of the dependency index."""
MAX_DROPPED_AT_ONCE: Final = 256
"""The most entries that `invalidate` drops at once. If it affects more, `find` checks each entry that is asked for."""
MAX_PREVIOUS: Final = 4
"""The most dictionaries that the previous generation may consist of."""


def _nothing() -> None:
    return None


class Countdown:
    """The offsets of the TTLs in a reply whose TTLs count down, and the time when the reply expires."""

    __slots__ = ("ends", "offsets")

    def __init__(self, offsets: tuple[tuple[int, ...], ...], ends: float) -> None:
        """`offsets` has one tuple for each encoded reply: the offsets of its TTLs.

        `ends` is a time on the table's clock. TTLs go down by one at each whole second before `ends`.
        """
        self.offsets, self.ends = offsets, ends


class Entry:
    """An encoded reply in the answer table.

    `wire` is the reply without its message id. If the reply has several rotations (orders of its records), `wire` is
    None and `wires` has all of them. Then `uses` counts how often a rotation was sent, and `flushed_uses` is `uses` at
    the last flush of the metrics. `hit_counter` counts the uses for the metrics; several entries may share one hit
    counter.

    `deadline` is a time on the table's clock. It is infinite for a reply that stays correct until a dependency changes.
    If the entry has a `countdown`, `deadline` is the time when the TTLs go down next.
    """

    __slots__ = (
        "countdown",
        "deadline",
        "dependencies",
        "flushed_uses",
        "hit_counter",
        "key",
        "limited",
        "observed",
        "uses",
        "wire",
        "wires",
    )

    def __init__(
        self,
        key: bytes,
        wires: tuple[bytes, ...],
        deadline: float,
        dependencies: tuple[Dependency, ...],
        hit_counter: HitCounter,
    ) -> None:
        """`wires` has the encoded reply in each order of its records.

        The first of them counts as used, because it answered the query for which the entry was made.
        """
        self.key, self.deadline, self.dependencies, self.hit_counter = key, deadline, dependencies, hit_counter
        self.wires = wires
        self.wire = wires[0] if len(wires) == 1 else None
        self.uses = self.flushed_uses = 1
        self.countdown: Countdown | None = None
        self.observed: tuple[Query, Reply, Route] | None = None
        """The arguments for the block's observers (`Plugin.observe`) at each hit; None if there are no observers."""
        self.limited: LimitedReply | None = None
        """The rate limiter and the account of the reply; None if the rate is not limited."""

    @property
    def cost(self) -> int:
        """The octets of the table's budget that the entry uses."""
        return ENTRY_COST + len(self.key) + sum(map(len, self.wires)) + 33 * len(self.wires)

    def alive(self, now: float) -> bool:
        """Returns True if the entry may be served at `now`. In that case, also brings the entry's TTLs up to date."""
        if self.deadline > now:
            return True
        countdown = self.countdown
        if countdown is None or countdown.ends <= now:
            return False
        steps = int(now - self.deadline) + 1
        self.wires = tuple(aged(wire, at, steps) for wire, at in zip(self.wires, countdown.offsets, strict=True))
        self.wire = self.wires[0] if self.wire is not None else None
        self.deadline = min(self.deadline + steps, countdown.ends)
        return True


class AnswerTable:
    """The stored replies of one responder (listener, protocol and address family), in at most `budget` octets.

    The loop that answers UDP packets reads `current` directly. It calls `find` for keys that are not in `current`, and
    for entries past their deadline.
    """

    def __init__(self, budget: int, now: Clock) -> None:
        """`budget` is in octets, for all of the table; `now` is the clock of the deadlines.

        The budget covers keys, entries, the index of dependencies and the filter of keys seen once.
        """
        self.budget, self.now = budget, now
        self.on_full: Callable[[], None] = _nothing
        """Called when the current generation is full, so that other tables can give up budget for this table."""
        self.changes = 0
        """The number of calls of `invalidate` and `clear`.

        A reply is not stored if the number grew since the query came.
        """
        self.current: dict[bytes, Entry] = {}
        self.previous: list[dict[bytes, Entry]] = []
        """The previous generation: one dictionary, or several if many entries were invalidated at once."""
        self.dirty: list[HitCounter] = []
        """Hit counters whose latest hits are not in the metrics yet."""
        self.rotated: list[Entry] = []
        """Entries with several rotations that were used since the last flush of the metrics."""
        self.negative = NegativeAnswers()
        """Negative answers for names that do not exist."""
        self._seen = SeenFilter(budget // FILTER_SHARE)
        self.seen_before = self._seen.seen_before
        """Returns True if a key was asked for before, and remembers the key."""
        self._invalid: set[Dependency] = set()
        """Dependencies that have changed: an entry of the previous generation that has one of them is not served."""
        self._keys: dict[Dependency, set[bytes]] = {}
        """The index of dependencies: for each dependency, the keys of the entries that have it."""
        self._retired: deque[dict[bytes, Entry]] = deque()
        """Discarded generations: look-ups ignore them, but the index of dependencies still has their keys."""
        self._retired_keys: deque[set[bytes]] = deque()
        self._used = self._used_before = 0

    def __len__(self) -> int:
        """Returns the number of entries."""
        return len(self.current) + sum(map(len, self.previous))

    @property
    def used(self) -> int:
        """The octets of the budget that are in use."""
        return self._used + self._used_before + self._seen.octets

    def find(self, key: bytes, now: float) -> Entry | None:
        """Returns the entry of `key` if it may be served at `now`, else None. Moves the entry to the table's newer
        half.
        """
        entry = self.current.get(key)
        if entry is not None:
            if entry.alive(now):
                return entry
            self.drop(key)
            return None
        for generation in self.previous:
            entry = generation.pop(key, None)
            if entry is not None:
                self._used_before -= entry.cost
                if entry.alive(now) and self._invalid.isdisjoint(entry.dependencies):
                    self._admit(entry)
                    return entry
                self._remove_keys(entry)
                return None
        return None

    def use(self, entry: Entry) -> bytes:
        """Returns the reply of `entry` to send now, without its message id, and counts the use."""
        hit_counter = entry.hit_counter
        if hit_counter.hits == hit_counter.flushed:
            self.dirty.append(hit_counter)
        hit_counter.hits += 1
        return entry.wire if entry.wire is not None else self.next_rotation(entry)

    def next_rotation(self, entry: Entry) -> bytes:
        """Returns the reply of `entry` with its records in the next of several orders (rotations).

        Call it only for an entry with several orders.
        """
        uses, wires = entry.uses, entry.wires
        if uses == entry.flushed_uses:
            self.rotated.append(entry)
        entry.uses = uses + 1
        return wires[uses % len(wires)]

    def put(self, entry: Entry) -> None:
        """Stores an entry, and replaces an entry that has the same key."""
        self.drop(entry.key)
        for dependency in entry.dependencies:
            self._keys.setdefault(dependency, set()).add(entry.key)
        self._admit(entry)

    def drop(self, key: bytes) -> None:
        """Removes the entry of `key`, if there is one."""
        entry = self.current.pop(key, None)
        if entry is not None:
            self._used -= entry.cost
            self._remove_keys(entry)
            return
        for generation in self.previous:
            entry = generation.pop(key, None)
            if entry is not None:
                self._used_before -= entry.cost
                self._remove_keys(entry)
                return

    def invalidate(self, dependencies: Collection[Dependency]) -> None:
        """Makes sure that no entry that was made from one of the objects `dependencies` is served again."""
        index = self._keys
        self.changes += 1
        self.negative.invalidate(dependencies)
        known = [dependency for dependency in dependencies if dependency in index]
        if sum(len(index[dependency]) for dependency in known) > MAX_DROPPED_AT_ONCE:
            self._hide(known)
            return
        for dependency in known:
            for key in tuple(index.get(dependency, ())):
                self.drop(key)

    def clear(self) -> None:
        """Removes all entries. Keeps the hit counts that are not in the metrics yet."""
        self.changes += 1
        self._start_generation()
        self._start_generation()
        self.negative.clear()

    def allow(self, budget: int) -> None:
        """Sets the budget, in octets. Discards the older half of the table, and then the newer half, until the rest
        fits.
        """
        self.budget = budget
        self._seen.resize(budget // FILTER_SHARE)
        while self._used + self._used_before > budget - self._seen.octets:
            self._start_generation()

    def purge(self) -> Iterator[None]:
        """Frees the memory of all entries that were discarded; each step of the iterator frees a little."""
        while self._retired or self._retired_keys:
            self._purge_some()
            yield

    def _admit(self, entry: Entry) -> None:
        self.current[entry.key] = entry
        self._used += entry.cost
        if self._retired:
            self._purge_some()
        if self._is_full():
            self.on_full()
            if self._is_full():
                self._start_generation()

    def _is_full(self) -> bool:
        room = self.budget - self._seen.octets
        return self._used > room >> 1 or self._used + self._used_before > room

    def _start_generation(self) -> None:
        """Discards the previous generation, and makes the current generation the previous one."""
        self._retired.extend(self.previous)
        self.previous = [self.current] if self.current else []
        self.current = {}
        self._invalid.clear()
        self._used_before, self._used = self._used, 0

    def _hide(self, dependencies: Collection[Dependency]) -> None:
        """Marks the objects `dependencies` as changed. From then on, `find` does not return an older entry that has one
        of them.

        The whole current generation becomes part of the previous one, so the time does not depend on the number of
        entries.
        """
        if len(self.previous) >= MAX_PREVIOUS:
            self._start_generation()
        elif self.current:
            self.previous.insert(0, self.current)
            self.current = {}
            self._used_before, self._used = self._used_before + self._used, 0
        self._invalid.update(dependencies)
        self._retired_keys.extend([self._keys.pop(dependency) for dependency in dependencies])

    def _purge_some(self) -> None:
        if self._retired:
            generation = self._retired[0]
            for _ in range(min(PURGE_STEP, len(generation))):
                self._remove_keys(generation.popitem()[1])
            if not generation:
                self._retired.popleft()
        elif self._retired_keys:
            keys = self._retired_keys[0]
            for _ in range(min(PURGE_KEYS_STEP, len(keys))):
                keys.pop()
            if not keys:
                self._retired_keys.popleft()

    def _remove_keys(self, entry: Entry) -> None:
        """Removes the key of a removed entry from the index of dependencies.

        If another entry has this key by now, the key stays under the dependencies of that entry.
        """
        key = entry.key
        successor = self.current.get(key)
        for generation in self.previous:
            successor = successor or generation.get(key)
        for dependency in entry.dependencies:
            if successor is not None and dependency in successor.dependencies:
                continue
            keys = self._keys.get(dependency)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._keys[dependency]
