"""The answer table: finished replies under the bytes of the packets that they answer.

Key: the packet behind its id, with the client's audience class before it where the listener has classes. Entry: the reply behind its
id, in one or several rotations. A reply goes in at the second sighting of its key, so that unique names, cookies and random case cost
no entry. It is dropped when a change touches one of its owners, when its deadline passes, or with its generation: the table holds two,
and starts a new one when the young one has used half of the budget, so it is bounded in octets whatever is asked. TTLs that count down
are brought up to date when an entry is asked for after a whole second, never otherwise.

Rule: what `invalidate` was told is never served again; an entry and its owners' lists are made in one step.
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
from svcdns.wire.ttl import aged

ENTRY_COST: Final = 450
"""Octets of objects that an entry takes besides its key and its wires, the owner index included; a test holds this."""
MARKS: Final = 1 << 20
"""Octets that remember which packets came before, made when the first one comes."""
DYING: Final = 8
"""Entries of a generation that is over which go with each entry that comes, so that no packet waits for all of them."""


def _nothing() -> None:
    return None


class Countdown:
    """How an entry's TTLs go down: where they stand in each wire (offsets from the wire's own start), and when the reply is over."""

    __slots__ = ("ends", "offsets")

    def __init__(self, offsets: tuple[tuple[int, ...], ...], ends: float) -> None:
        """`ends` is on the table's clock; TTLs go down each whole second before it."""
        self.offsets, self.ends = offsets, ends


class Entry:
    """A compiled reply.

    `wire` is the reply without its id, None where there are several rotations of it: these are `wires`, and `uses` says how many times one
    of them went out, `turned` how many times before the last fold. Each use counts in `hit_counter`, which entries share: so a
    use of an entry
    with one wire writes nothing into it. `deadline` is on the table's clock, infinite for answers that live until changed; with a
    `countdown` it is the moment of the next step of the TTLs.
    """

    __slots__ = ("countdown", "deadline", "dependencies", "hit_counter", "key", "seen", "turned", "uses", "wire", "wires")

    def __init__(
        self, key: bytes, wires: tuple[bytes, ...], deadline: float, dependencies: tuple[Dependency, ...], hit_counter: HitCounter
    ) -> None:
        """The first rotation has been used once, for the packet that made it."""
        self.key, self.deadline, self.dependencies, self.hit_counter = key, deadline, dependencies, hit_counter
        self.wires = wires
        self.wire = wires[0] if len(wires) == 1 else None
        self.uses = self.turned = 1
        self.countdown: Countdown | None = None
        self.seen: tuple[Query, Reply, Route] | None = None
        """What observers of the block are shown for each hit; only kept where there are observers."""

    @property
    def cost(self) -> int:
        """Octets that the entry is charged with."""
        return ENTRY_COST + len(self.key) + sum(map(len, self.wires)) + 33 * len(self.wires)

    def alive(self, now: float) -> bool:
        """Whether the entry may be served at `now`; TTLs that have to go down by then have done so."""
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
    """Two generations of entries, bounded together by `budget` octets.

    The hot loop reads `young` directly; `find` is the way of a packet that is not in it, or whose entry there is past its deadline.
    """

    def __init__(self, budget: int, now: Clock) -> None:
        """`budget` in octets, for keys, entries and the owner index together; deadlines are on the clock `now`."""
        self.budget, self.now = budget, now
        self.pressed: Callable[[], None] = _nothing
        """Called when a generation is full: others may leave this table some of their budget."""
        self.changes = 0
        """Grows with every `invalidate` and `clear`: a reply asked for before must not be stored after."""
        self.young: dict[bytes, Entry] = {}
        self.old: dict[bytes, Entry] = {}
        self._dying: deque[dict[bytes, Entry]] = deque()
        """Generations that no look-up finds any more, and the owner index still names; a few entries go with every one that comes."""
        self.touched: list[HitCounter] = []
        """What has hits which are not in the counters yet."""
        self.turning: list[Entry] = []
        """Entries with rotations that were used since the last fold."""
        self.negative = NegativeAnswers()
        """Answers about names that are not there."""
        self._marks = bytearray()
        self._turn = False
        self._owned: dict[Dependency, set[bytes]] = {}
        self._used = self._used_before = 0

    def __len__(self) -> int:
        """Entries in both generations."""
        return len(self.young) + len(self.old)

    def find(self, key: bytes, now: float) -> Entry | None:
        """The entry of a key in either generation, fit to be served at `now`; it is young from now on."""
        entry = self.young.get(key)
        if entry is not None:
            if entry.alive(now):
                return entry
            self.drop(key)
            return None
        entry = self.old.pop(key, None)
        if entry is None:
            return None
        if not entry.alive(now):
            self._disown(entry)
            return None
        self._admit(entry)
        return entry

    def use(self, entry: Entry) -> bytes:
        """The reply that an entry gives this time, without its id; its use is counted."""
        hit_counter = entry.hit_counter
        if hit_counter.hits == hit_counter.flushed:
            self.touched.append(hit_counter)
        hit_counter.hits += 1
        return entry.wire if entry.wire is not None else self.turn(entry)

    def turn(self, entry: Entry) -> bytes:
        """The next rotation of an entry that has several."""
        uses, wires = entry.uses, entry.wires
        if uses == entry.turned:
            self.turning.append(entry)
        entry.uses = uses + 1
        return wires[uses % len(wires)]

    def sighted(self, key: bytes) -> bool:
        """Whether the key has been asked before; from now on it has.

        A key leaves a mark in one of two octets that are its own and few others'; one key in 127 is taken for another.
        """
        number = hash(key)
        mark, first, second = number % 255 + 1, (number >> 8) % MARKS, (number >> 28) % MARKS
        marks = self._marks or self._begin_marks()
        if mark in (marks[first], marks[second]):
            return True
        self._turn = not self._turn
        marks[first if not marks[first] or (marks[second] and self._turn) else second] = mark
        return False

    def put(self, entry: Entry) -> None:
        """Takes a compiled reply in, in place of any other under its key."""
        self.drop(entry.key)
        for owner in entry.dependencies:
            self._owned.setdefault(owner, set()).add(entry.key)
        self._admit(entry)

    def drop(self, key: bytes) -> None:
        """Takes the entry of that key out, if there is one."""
        entry = self.young.pop(key, None) or self.old.pop(key, None)
        if entry is not None:
            self._disown(entry)

    def invalidate(self, dependencies: Collection[Dependency]) -> None:
        """Drops every entry that rests on one of the owners."""
        owned = self._owned
        self.changes += 1
        self.negative.invalidate(dependencies)
        for owner in dependencies:
            for key in tuple(owned.get(owner, ())):
                self.drop(key)

    def clear(self) -> None:
        """Drops everything, keeping the hits that are not folded yet."""
        self.changes += 1
        self.young, self.old = {}, {}
        self._dying.clear()
        self.negative.clear()
        self._owned.clear()
        self._used = self._used_before = 0

    def allow(self, budget: int) -> None:
        """Another budget, in octets, from now on; what is over it goes."""
        self.budget = budget
        while self._used + self._used_before > budget:
            self._age()

    def shrink(self, budget: int) -> Iterator[None]:
        """As `allow`, but all that goes is gone at the end of the iterator, bit by bit between its steps."""
        self.allow(budget)
        while self._dying:
            self._bury()
            yield

    def _admit(self, entry: Entry) -> None:
        self.young[entry.key] = entry
        self._used += entry.cost
        if self._dying:
            self._bury()
        self._bound()

    def _begin_marks(self) -> bytearray:
        self._marks = bytearray(MARKS)
        return self._marks

    def _bound(self) -> None:
        if self._used > self.budget // 2:
            self.pressed()
            if self._used > self.budget // 2:
                self._age()

    def _bury(self) -> None:
        """Forgets a few of the dying."""
        generation = self._dying[0]
        for _ in range(min(DYING, len(generation))):
            self._disown(generation.popitem()[1])
        if not generation:
            self._dying.popleft()

    def _age(self) -> None:
        if self.old:
            self._dying.append(self.old)
        self.old, self.young = self.young, {}
        self._used_before, self._used = self._used, 0

    def _disown(self, entry: Entry) -> None:
        """Takes an entry out of the owner index, but for owners that the entry which now has its key rests on too."""
        successor = self.young.get(entry.key) or self.old.get(entry.key)
        for owner in entry.dependencies:
            if successor is not None and owner in successor.dependencies:
                continue
            keys = self._owned.get(owner)
            if keys is not None:
                keys.discard(entry.key)
                if not keys:
                    del self._owned[owner]
