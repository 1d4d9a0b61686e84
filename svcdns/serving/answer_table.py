"""The answer table: encoded replies by the octets of the packets that they answer.

The key is the packet without its id, behind the client class where the listener has classes. An entry is the reply
without its id, in one or more rotations. A reply is stored when its key is asked for the second time, so that names
asked for once take no place. An entry goes when a change affects one of its dependencies, when its deadline passes, or
when its generation is retired. The table has a current and a previous generation, and starts a new one once the current
one takes half of the budget. So its size is bounded, whatever is asked. TTLs that count down are brought up to date
when an entry is asked for, at most once a second.

Rules:

1. An entry that depends on what `invalidate` was given is never served again. Where few entries do, they are dropped at
   once. Where many do, all entries become a previous generation, and each is checked when it is asked for: no packet
   waits for all of them to go.
2. An entry and its keys in the index of dependencies are made in one step.
3. Retired entries are freed a few at a time, with each new entry and by `purge`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Final

from svcdns.chain.routing import Route
from svcdns.cluster.changes import Dependency
from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.serving.metrics import HitCounter
from svcdns.serving.negative_answers import NegativeAnswers
from svcdns.serving.seen_filter import SeenFilter
from svcdns.wire.ttl import aged

ENTRY_COST: Final = 450
"""Octets of objects that an entry takes besides its key and its wires, the index of dependencies included; a test holds
this."""
FILTER_SHARE: Final = 8
"""The seen filter takes at most this part of the budget."""
PURGE_STEP: Final = 8
"""Retired entries that are freed at once."""
PURGE_KEYS_STEP: Final = 128
"""Keys of retired index sets that are freed at once."""
MAX_DROPPED_AT_ONCE: Final = 256
"""Entries that `invalidate` drops at once; more of them are checked when they are asked for."""
MAX_PREVIOUS: Final = 4
"""Dictionaries that the previous generation may consist of."""


def _nothing() -> None:
    return None


class Countdown:
    """How an entry's TTLs go down: their offsets in each wire, and when the reply ends."""

    __slots__ = ("ends", "offsets")

    def __init__(self, offsets: tuple[tuple[int, ...], ...], ends: float) -> None:
        """`ends` is on the table's clock; TTLs go down each whole second before it."""
        self.offsets, self.ends = offsets, ends


class Entry:
    """An encoded reply.

    `wire` is the reply without its id, None where it has several rotations: these are `wires`. `uses` says how many
    times one of them was sent, `flushed_uses` how many times until the last flush. Each use counts in `hit_counter`,
    which entries share, so the use of an entry with one wire writes nothing into the entry. `deadline` is on the
    table's clock, infinite for replies that live until a change; with a `countdown` it is the moment of the next step
    of the TTLs.
    """

    __slots__ = (
        "countdown",
        "deadline",
        "dependencies",
        "flushed_uses",
        "hit_counter",
        "key",
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
        """The first rotation counts as used, by the packet that made the entry."""
        self.key, self.deadline, self.dependencies, self.hit_counter = key, deadline, dependencies, hit_counter
        self.wires = wires
        self.wire = wires[0] if len(wires) == 1 else None
        self.uses = self.flushed_uses = 1
        self.countdown: Countdown | None = None
        self.observed: tuple[Query, Reply, Route] | None = None
        """What observers of the block are shown for each hit; None where the block has no observers."""

    @property
    def cost(self) -> int:
        """Octets that the entry takes of the budget."""
        return ENTRY_COST + len(self.key) + sum(map(len, self.wires)) + 33 * len(self.wires)

    def alive(self, now: float) -> bool:
        """Whether the entry may be served at `now`; if so, its TTLs are those of `now`."""
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
    """The entries of one responder, bounded by `budget` octets.

    The hot loop reads `current` directly. `find` is for packets that it does not have, and for entries past their
    deadline.
    """

    def __init__(self, budget: int, now: Clock) -> None:
        """`budget` in octets, for keys, entries, the index of dependencies and the seen filter; deadlines are on the
        clock `now`."""
        self.budget, self.now = budget, now
        self.on_full: Callable[[], None] = _nothing
        """Called when the current generation is full: other tables may give up some of their budget to this one."""
        self.changes = 0
        """Grows with every `invalidate` and `clear`: a reply that was asked for before must not be stored after."""
        self.current: dict[bytes, Entry] = {}
        self.previous: list[dict[bytes, Entry]] = []
        """The previous generation: one dictionary, or several where many entries were invalidated at once."""
        self.dirty: list[HitCounter] = []
        """Hit counters with hits that are not in the metrics yet."""
        self.rotated: list[Entry] = []
        """Entries of several rotations that were used since the last flush."""
        self.negative = NegativeAnswers()
        """Answers about names that do not exist."""
        self._seen = SeenFilter(budget // FILTER_SHARE)
        self.seen_before = self._seen.seen_before
        """Whether a key was asked for before; from now on it was."""
        self._invalid: set[Dependency] = set()
        """Entries of the previous generation that depend on one of these are not served."""
        self._keys: dict[Dependency, set[bytes]] = {}
        """The index of dependencies: keys of the entries that depend on each."""
        self._retired: deque[dict[bytes, Entry]] = deque()
        """Generations that no look-up finds any more; the index still has their keys."""
        self._retired_keys: deque[set[bytes]] = deque()
        self._used = self._used_before = 0

    def __len__(self) -> int:
        """Entries in both generations."""
        return len(self.current) + sum(map(len, self.previous))

    @property
    def used(self) -> int:
        """Octets of the budget that are taken."""
        return self._used + self._used_before + self._seen.octets

    def find(self, key: bytes, now: float) -> Entry | None:
        """The entry of a key, if it may be served at `now`; it is in the current generation from now on."""
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
        """The reply, without its id, to send this time; the use is counted."""
        hit_counter = entry.hit_counter
        if hit_counter.hits == hit_counter.flushed:
            self.dirty.append(hit_counter)
        hit_counter.hits += 1
        return entry.wire if entry.wire is not None else self.next_rotation(entry)

    def next_rotation(self, entry: Entry) -> bytes:
        """The next rotation of an entry that has several."""
        uses, wires = entry.uses, entry.wires
        if uses == entry.flushed_uses:
            self.rotated.append(entry)
        entry.uses = uses + 1
        return wires[uses % len(wires)]

    def put(self, entry: Entry) -> None:
        """Stores an entry, in place of any other with its key."""
        self.drop(entry.key)
        for dependency in entry.dependencies:
            self._keys.setdefault(dependency, set()).add(entry.key)
        self._admit(entry)

    def drop(self, key: bytes) -> None:
        """Removes the entry of that key, if there is one."""
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
        """No entry that depends on one of these is served again."""
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
        """No entry is served again. Hits that are not in the metrics yet are kept."""
        self.changes += 1
        self._start_generation()
        self._start_generation()
        self.negative.clear()

    def allow(self, budget: int) -> None:
        """Another budget, in octets, from now on; entries over it go."""
        self.budget = budget
        self._seen.resize(budget // FILTER_SHARE)
        while self._used + self._used_before > budget - self._seen.octets:
            self._start_generation()

    def purge(self) -> Iterator[None]:
        """Frees all that is retired, a little at each step."""
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
        """Retires the previous generation; the current one takes its place."""
        self._retired.extend(self.previous)
        self.previous = [self.current] if self.current else []
        self.current = {}
        self._invalid.clear()
        self._used_before, self._used = self._used, 0

    def _hide(self, dependencies: Collection[Dependency]) -> None:
        """Has every entry checked when it is asked for, in one step however many depend on one of these."""
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
        """Takes an entry's key out of the index, except under dependencies of the entry that has the key now."""
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
