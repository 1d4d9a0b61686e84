"""The answer table: maps the octets of a query packet to an encoded reply.

A key is a packet without its message id; on a listener with client classes, the client class precedes the packet. An
entry is a reply without its message id, in one or more orders of its records (rotations). A reply is stored at the
second query for its key.

Rules:

1. After `invalidate`, no entry with one of the dependencies is served. If few entries have them, these entries are
   removed. Otherwise all entries move to a previous generation, and each one is checked when it is looked up.
2. A dependency of more than MAX_DROPPED_AT_ONCE entries has no keys in the index of dependencies.
3. The entries of a discarded ("retired") generation are freed in small steps: some with each new entry, the rest by
   `purge`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from sys import intern
from typing import Final, Protocol

import msgspec

from svcdns.chain.routing import CONFIGURATION, Route
from svcdns.cluster.changes import Dependency
from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.rate_limit import LimitedReply
from svcdns.plugin_api.reply import Reply
from svcdns.serving.metrics import HitCounter
from svcdns.serving.negative_answers import NegativeAnswers
from svcdns.serving.seen_filter import SeenFilter
from svcdns.wire.ttl import aged

ENTRY_COST: Final = 350
"""The octets of memory that an entry takes, without its key and replies. Includes the dependency index.

A test checks it.
"""
DETAILS_COST: Final = 80
"""The octets that the `Details` of an entry take, without the replies."""
NEGATIVE_LIFETIME: Final = 30.0
"""The longest time in seconds that a negative answer is stored. This limits the age of the SOA serial in the answer.

The serial also grows with changes that do not invalidate the answer.
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
MAX_FEW: Final = 8
"""The most keys of a dependency that are kept in a tuple. A tuple of this size takes less memory than a set."""
SHARED_DEADLINE: Final = 0.5
"""Entries whose deadlines differ by less than this number of seconds may share one deadline object."""


def _nothing() -> None:
    return None


class Countdown:
    """The positions of the TTLs that count down in a reply, and the time at which the reply expires."""

    __slots__ = ("ends", "offsets")

    def __init__(self, offsets: tuple[tuple[int, ...], ...], ends: float) -> None:
        """`offsets` has one tuple for each encoded reply, with the offsets of its TTLs.

        `ends` is the time at which the reply expires, on the table's clock. Until then, all TTLs go down by one in each
        second.
        """
        self.offsets, self.ends = offsets, ends


class Details(msgspec.Struct, gc=False, eq=False):
    """The parts of an answer-table entry that most entries do not need.

    - `wires` has the reply in several orders of its records (rotations), or is empty.
    - `uses` counts how often a rotation was sent. `flushed_uses` is its value when the metrics were last flushed.
    - `countdown` is set for a reply whose TTLs count down.
    - `observed` has the arguments for the block's hooks `observe`, which are called at each use.
    - `limited` has the rate limiter and the account of the reply.
    """

    wires: tuple[bytes, ...] = ()
    uses: int = 1
    flushed_uses: int = 1
    countdown: Countdown | None = None
    observed: tuple[Query, Reply, Route] | None = None
    limited: LimitedReply | None = None


class Entry(msgspec.Struct, gc=False, eq=False):
    """An encoded reply in the answer table.

    - `wire` is the reply without its message id. If the reply has several orders of its records (rotations), `wire` is
      None, and `details` has all of them.
    - `hit_counter` counts the uses for the metrics. Several entries may share it.
    - After `deadline`, a time on the table's clock, the entry must be checked. With a countdown, this is when the TTLs
      change next. The deadline is infinite if the reply is valid until a dependency changes.

    Rule: an entry is in no reference cycle, because the garbage collector does not track entries.
    """

    key: bytes
    wire: bytes | None
    deadline: float
    dependencies: tuple[Dependency, ...]
    hit_counter: HitCounter
    details: Details | None = None

    @classmethod
    def of(
        cls,
        key: bytes,
        wires: tuple[bytes, ...],
        deadline: float,
        dependencies: tuple[Dependency, ...],
        hit_counter: HitCounter,
        details: Details | None = None,
    ) -> Entry:
        """Returns an entry. `wires` has the encoded reply in each order of its records.

        The first order is counted as used, because the caller has sent it.
        """
        if len(wires) == 1:
            return cls(key, wires[0], deadline, dependencies, hit_counter, details)
        if details is None:
            details = Details()
        details.wires = wires
        return cls(key, None, deadline, dependencies, hit_counter, details)

    @property
    def wires(self) -> tuple[bytes, ...]:
        """Returns the encoded reply in each order of its records."""
        if self.wire is not None:
            return (self.wire,)
        assert self.details is not None
        return self.details.wires

    @property
    def cost(self) -> int:
        """Returns the octets of the table's budget that the entry takes."""
        wire, details = self.wire, self.details
        cost = ENTRY_COST + len(self.key)
        if details is not None:
            cost += DETAILS_COST + sum(map(len, details.wires)) + 33 * len(details.wires)
        return cost if wire is None else cost + len(wire)

    @property
    def is_local(self) -> bool:
        """Returns True if only data of this server decide the reply, and not a client, the clock or an upstream."""
        details = self.details
        if details is not None and (details.countdown or details.observed or details.limited):
            return False
        return bool(self.dependencies) and CONFIGURATION not in self.dependencies

    def alive(self, now: float) -> bool:
        """Returns True if the entry may be served at the time `now`.

        Also updates the TTLs of an entry that may be served.
        """
        if self.deadline > now:
            return True
        details = self.details
        countdown = None if details is None else details.countdown
        if details is None or countdown is None or countdown.ends <= now:
            return False
        steps = int(now - self.deadline) + 1
        wires = tuple([aged(wire, at, steps) for wire, at in zip(self.wires, countdown.offsets, strict=True)])
        if self.wire is None:
            details.wires = wires
        else:
            self.wire = wires[0]
        self.deadline = min(self.deadline + steps, countdown.ends)
        return True


class Mirror(Protocol):
    """A copy of the entries of an answer table, from which another program answers (docs/accelerator.md)."""

    def put(self, entry: Entry) -> None:
        """Copies an entry of the table. Does nothing if the copy already has the entry's key."""

    def remove(self, key: bytes) -> None:
        """Removes the entry of a key, if the copy has it. No later packet is answered with the entry."""

    def clear(self) -> None:
        """Removes all entries."""


class _Many:
    """The keys of the entries with one dependency, if there are more than MAX_FEW.

    `keys` is None if there have been more than MAX_DROPPED_AT_ONCE. `shared` is a tuple of dependencies for entries
    whose last dependency this is.
    """

    __slots__ = ("dependency", "keys", "shared")

    def __init__(self, dependency: Dependency, keys: set[bytes]) -> None:
        self.dependency = dependency
        self.keys: set[bytes] | None = keys
        self.shared: tuple[Dependency, ...] = (dependency,)


_Dependents = bytes | tuple[bytes, ...] | _Many
"""The keys of the entries that have one dependency: the only key, a tuple of a few keys, or more."""


class AnswerTable:
    """The stored replies of one responder (listener, protocol and address family), in at most `budget` octets.

    The loop for UDP packets reads `current` directly. The loop calls `find` for keys that are not in `current`, and for
    entries past their deadline.
    """

    def __init__(self, budget: int, now: Clock) -> None:
        """`budget` is the memory of the table in octets, with keys, entries, the index of dependencies and the seen
        filter.

        `now` is the clock of the deadlines.
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
        self.mirror: Mirror | None = None
        """The copy of this table; None if there is none. Entries are removed there before they are removed here."""
        self._seen = SeenFilter(budget // FILTER_SHARE)
        self.seen_before = self._seen.seen_before
        """Returns True if a key was asked for before, and remembers the key."""
        self._invalid: set[Dependency] = set()
        """Dependencies that have changed: an entry of the previous generation that has one of them is not served."""
        self._stays: Callable[[Entry], bool] | None = None
        """Returns True if an entry of the previous generation may be served after a reload. None for all entries."""
        self._dependents: dict[Dependency, _Dependents] = {}
        """The index of dependencies: for each dependency, the keys of the entries that have it."""
        self._shared_deadline = 0.0
        self._retired: deque[dict[bytes, Entry]] = deque()
        """Discarded generations: look-ups ignore them, but the index of dependencies still has their keys."""
        self._retired_keys: deque[set[bytes] | dict[Dependency, _Dependents]] = deque()
        """Discarded parts of the index of dependencies, whose memory is freed in steps."""
        self._used = self._used_before = 0

    def __len__(self) -> int:
        """Returns the number of entries."""
        return len(self.current) + sum(map(len, self.previous))

    @property
    def used(self) -> int:
        """Returns the octets of the budget that are in use."""
        return self._used + self._used_before + self._seen.octets

    @property
    def fill(self) -> float:
        """Returns the share of the current generation's room that is in use. Above 1, a new generation starts."""
        return 2 * self._used / max(1, self.budget - self._seen.octets)

    def find(self, key: bytes, now: float) -> Entry | None:
        """Returns the entry of `key` if it may be served at the time `now`, else None.

        An entry of the previous generation moves to the current one.
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
                if self._is_valid(entry) and entry.alive(now):
                    self._admit(entry)
                    return entry
                self._remove_keys(entry)
                return None
        return None

    def usable(self, now: float) -> Iterator[Entry]:
        """Yields the entries that may be served at the time `now`. Entries may be dropped between two of them."""
        for generation in (self.current, *self.previous):
            for entry in list(generation.values()):
                if self._is_usable(entry) and entry.alive(now):
                    yield entry

    def _is_usable(self, entry: Entry) -> bool:
        key = entry.key
        if self.current.get(key) is entry:
            return True
        return any(generation.get(key) is entry for generation in self.previous) and self._is_valid(entry)

    def drop_negative(self) -> None:
        """Drops the answers that many nonexistent names share. Replies to earlier queries are not stored any more."""
        self.changes += 1
        self.negative.clear()

    def _is_valid(self, entry: Entry) -> bool:
        """Returns True if an entry of the previous generation is still valid after all changes and reloads."""
        return self._invalid.isdisjoint(entry.dependencies) and (self._stays is None or self._stays(entry))

    def use(self, entry: Entry) -> bytes:
        """Returns the reply of `entry` without its message id, and counts the use."""
        hit_counter = entry.hit_counter
        if hit_counter.hits == hit_counter.flushed:
            self.dirty.append(hit_counter)
        hit_counter.hits += 1
        return entry.wire if entry.wire is not None else self.next_rotation(entry)

    def next_rotation(self, entry: Entry) -> bytes:
        """Returns the reply of `entry` with its records in the next order (rotation).

        Call it only for an entry with several orders.
        """
        details = entry.details
        assert details is not None
        uses, wires = details.uses, details.wires
        if uses == details.flushed_uses:
            self.rotated.append(entry)
        details.uses = uses + 1
        return wires[uses % len(wires)]

    def deadline(self, seconds: float) -> float:
        """Returns the time in `seconds` seconds, or up to SHARED_DEADLINE earlier.

        Entries that are stored at about the same time share the result, which saves memory.
        """
        ends = self.now() + seconds
        if not ends - SHARED_DEADLINE < self._shared_deadline <= ends:
            self._shared_deadline = ends
        return self._shared_deadline

    def put(self, entry: Entry) -> None:
        """Stores an entry. Replaces an entry that has the same key."""
        key = entry.key
        self.drop(key)
        if entry.dependencies:
            entry.dependencies = self._shared(entry.dependencies)
            for dependency in entry.dependencies:
                self._add_dependent(dependency, key)
        self._admit(entry)

    def add_dependency(self, entry: Entry, dependency: Dependency) -> None:
        """Adds a dependency to an entry of the table, for `invalidate`."""
        if dependency not in entry.dependencies:
            entry.dependencies = self._shared((*entry.dependencies, dependency))
            self._add_dependent(dependency, entry.key)

    def drop(self, key: bytes) -> None:
        """Removes the entry of `key`, if there is one."""
        if self.mirror is not None:
            self.mirror.remove(key)  # also a key that only a retired generation has
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
        """Ensures that no entry that was made from one of the objects in `dependencies` is served again."""
        index = self._dependents
        self.changes += 1
        self.negative.invalidate(dependencies)
        known = [dependency for dependency in dependencies if dependency in index]
        if not known:
            return
        groups = [_keys(index[dependency]) for dependency in known]
        keys = [key for group in groups if group is not None for key in group]
        if None in groups or len(keys) > MAX_DROPPED_AT_ONCE:
            self._hide(known)
            return
        for key in keys:
            self.drop(key)

    def keep(self, stays: Callable[[Entry], bool] | None) -> None:
        """Keeps those of the present entries for which `stays` returns True, when a reload replaces the plugin chains.

        Each entry is checked when it is looked up. If `stays` is None, all entries stay. Call it in place of `clear`.
        """
        self.changes += 1
        self.negative.clear()
        if self.mirror is not None:
            self.mirror.clear()
        if stays is not None:
            self._age()
            self._stays = stays

    def clear(self) -> None:
        """Removes all entries. Uses that are not in the metrics yet are still counted at the next flush."""
        self.changes += 1
        if self.mirror is not None:
            self.mirror.clear()
        self._start_generation()
        self._start_generation()
        if self._dependents:
            self._retired_keys.append(self._dependents)
            self._dependents = {}
        self.negative.clear()

    def allow(self, budget: int) -> None:
        """Sets the budget, in octets.

        If the table is too large, discards the previous generation, and also the current one if necessary.
        """
        self.budget = budget
        self._seen.resize(budget // FILTER_SHARE)
        while self._used + self._used_before > budget - self._seen.octets:
            self._start_generation()

    def purge(self) -> Iterator[None]:
        """Frees the memory of all discarded entries, a little at each step of the iterator."""
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
        if self.mirror is not None:
            self.mirror.put(entry)

    def _is_full(self) -> bool:
        room = self.budget - self._seen.octets
        return self._used > room >> 1 or self._used + self._used_before > room

    def _start_generation(self) -> None:
        """Discards the previous generation, and makes the current generation the previous one."""
        self._retired.extend(self.previous)
        self.previous = [self.current] if self.current else []
        self.current = {}
        self._invalid.clear()
        self._stays = None
        self._used_before, self._used = self._used, 0

    def _hide(self, dependencies: Collection[Dependency]) -> None:
        """Marks the objects in `dependencies` as changed, so that `find` does not return entries that depend on them.

        All current entries move to a previous generation: the time does not depend on the number of entries.
        """
        if self.mirror is not None:
            self.mirror.clear()
        self._age()
        self._invalid.update(dependencies)
        for dependency in dependencies:
            dependents = self._dependents.pop(dependency)
            if isinstance(dependents, _Many) and dependents.keys is not None:
                self._retired_keys.append(dependents.keys)

    def start_generation_of_used(self) -> None:
        """Moves all entries to the previous generation. Each entry returns to the current one at its next use."""
        self._age()

    def demote(self, key: bytes) -> None:
        """Moves the current entry of `key`, if there is one, to the previous generation.

        So the next look-up of the entry calls `Mirror.put` again.
        """
        entry = self.current.pop(key, None)
        if entry is not None:
            if not self.previous:
                self.previous.append({})
            self.previous[0][key] = entry
            self._used, self._used_before = self._used - entry.cost, self._used_before + entry.cost

    def _age(self) -> None:
        """Moves all current entries to the previous generation, so that each entry is checked when it is looked up."""
        if len(self.previous) >= MAX_PREVIOUS:
            self._start_generation()
        elif self.current:
            self.previous.insert(0, self.current)
            self.current = {}
            self._used_before, self._used = self._used_before + self._used, 0

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
                keys.popitem() if isinstance(keys, dict) else keys.pop()
            if not keys:
                self._retired_keys.popleft()

    def _remove_keys(self, entry: Entry) -> None:
        """Removes the key of a removed entry from the index of dependencies.

        Another entry may have the same key: its dependencies keep the key.
        """
        key = entry.key
        successor = self.current.get(key)
        for generation in self.previous:
            successor = successor or generation.get(key)
        if successor is None and self.mirror is not None:
            self.mirror.remove(key)
        for dependency in entry.dependencies:
            if successor is None or dependency not in successor.dependencies:
                self._discard_dependent(dependency, key)

    def _add_dependent(self, dependency: Dependency, key: bytes) -> None:
        index = self._dependents
        known = index.get(dependency)
        if known is None:
            index[dependency] = key
        elif isinstance(known, bytes):
            if known != key:
                index[dependency] = (known, key)
        elif isinstance(known, tuple):
            if key not in known:
                index[dependency] = (*known, key) if len(known) < MAX_FEW else _Many(dependency, {*known, key})
        elif known.keys is not None:
            known.keys.add(key)
            if len(known.keys) > MAX_DROPPED_AT_ONCE:
                known.keys = None

    def _discard_dependent(self, dependency: Dependency, key: bytes) -> None:
        index = self._dependents
        known = index.get(dependency)
        if known is None:
            return
        if isinstance(known, bytes):
            if known == key:
                del index[dependency]
        elif isinstance(known, tuple):
            if key in known:
                rest = tuple([one for one in known if one != key])
                index[dependency] = rest if len(rest) > 1 else rest[0]
        elif known.keys is not None:
            known.keys.discard(key)
            if not known.keys:
                del index[dependency]

    def _shared(self, dependencies: tuple[Dependency, ...]) -> tuple[Dependency, ...]:
        """Returns a tuple that is equal to `dependencies`: the one that other entries have, if it is easily found."""
        index = self._dependents
        known = index.get(dependencies[-1])
        if isinstance(known, _Many):
            if known.shared != dependencies:
                known.shared = tuple([self._shared_dependency(dependency) for dependency in dependencies])
            return known.shared
        if known is not None:
            other = self.current.get(known if isinstance(known, bytes) else known[0])
            if other is not None and other.dependencies == dependencies:
                return other.dependencies
        return tuple([self._shared_dependency(dependency) for dependency in dependencies])

    def _shared_dependency(self, dependency: Dependency) -> Dependency:
        known = self._dependents.get(dependency)
        if isinstance(known, _Many):
            return known.dependency
        return (*map(intern, dependency[:-1]), dependency[-1]) if len(dependency) > 2 else dependency


def _keys(dependents: _Dependents) -> Collection[bytes] | None:
    """Returns the keys of the entries with one dependency, or None if there are too many."""
    if isinstance(dependents, bytes):
        return (dependents,)
    return dependents if isinstance(dependents, tuple) else dependents.keys
