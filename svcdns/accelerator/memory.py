"""Writes the memory that the program in the kernel reads (see `layout`), by plain stores and without system calls.

One process writes. Rules:

1. `remove` is one aligned store of 32 bits. A packet that arrives afterwards does not get the reply of the removed
   entry.
2. A slot is written only while no word of `sets` refers to it, and at least REST seconds after the removal of its last
   entry. By then, the program has finished with the packets that it was handling at the removal. If a packet takes
   longer, the serials still prevent an old reply, because the first slot of an entry is written last.
3. The places are written only LAST_REPLIES seconds after a stop, when the program no longer reads them for any packet.
   If a packet takes longer, `PLACE_CHANGES` still prevents a reply for other places.
4. Every reply of the program is counted once. `take_hits` and `take_uses` return the counts since their last call.
   A packet that takes longer than REST may be counted for an entry that has its slot now.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from operator import add
from struct import Struct
from time import monotonic
from typing import Final, NamedTuple

import msgspec

from svcdns.accelerator.denial_filter import DenialFilter
from svcdns.accelerator.hit_numbers import UNNUMBERED, HitNumbers
from svcdns.accelerator.layout import (
    COUNT_SIZE,
    COUNTERS,
    DENIALS,
    FOREVER,
    LARGE_CLASS,
    LARGE_SIZE,
    PLACE,
    PLACE_CHANGES,
    PLACE_COUNT,
    PLACES,
    SETS,
    SMALL,
    SMALL_SIZE,
    STATE,
    STATE_SIZE,
    TAG_SHIFT,
    VALID_UNTIL,
    WAYS,
    WORD_SIZE,
    key_hash,
    key_tag,
)
from svcdns.accelerator.slot_pool import Replies, SlotPool, kept_end
from svcdns.accelerator.store_order import order_stores
from svcdns.eventloop.clock import Clock
from svcdns.serving.metrics import HitCounter

REST: Final = 0.1
"""The seconds between the removal of an entry and the next use of its slots."""
COUNTER_REST: Final = 1.0
"""The seconds between the removal of the last entry of a hit counter and the next use of the counter's number.

A packet that takes longer in the program would be counted for another hit counter.
"""
LAST_REPLIES: Final = 0.02
"""The seconds after a stop in which the program sends its last replies: packets that were in it at the stop."""
WAKE_STEP: Final = 64
"""The largest number of removed entries whose slots one call of `_wake` frees."""

_TOTALS: Final = Struct(f"<{len(COUNTERS)}Q")


class Place(NamedTuple):
    """An address and port at which the program answers. `table` is the number of the answer table with the replies."""

    address: str
    port: int
    table: int


class Placed(msgspec.Struct, gc=False, eq=False):
    """An entry in the memory.

    `word` is the index of the entry's word in `sets`. `slots` are the entry's slots, the first slot first. `number` is
    the number of its hit counter.
    """

    key: bytes
    table: int
    word: int
    is_large: bool
    slots: tuple[int, ...]
    number: int
    hit_counter: HitCounter
    is_denial: bool = False


def _pack(place: Place) -> bytes:
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    kind = 6 if family == socket.AF_INET6 else 4
    return PLACE.pack(socket.inet_pton(family, place.address), socket.htons(place.port), kind, place.table)


class Memory:
    """Writes the maps of the program. Only the process that owns the maps uses this class."""

    def __init__(
        self,
        descriptors: Sequence[int],
        small: int,
        large: int,
        cpus: int,
        clock: Clock = monotonic,
        seed: int | None = None,
    ) -> None:
        """`descriptors` belong to the maps, in the order of `layout.MAPS`. The caller may close the descriptors.

        `small` and `large` are the numbers of slots, and `cpus` is the number of CPUs. `clock` is CLOCK_MONOTONIC.
        Without `seed`, the seed is random, so that a client cannot choose many keys that belong to the same set.

        Raises OSError or ValueError if a map cannot be mapped.
        """
        self._clock = clock
        self._small = small
        state, sets, small_map, large_map, counts = descriptors
        self._maps: list[mmap.mmap] = []
        self._views: list[memoryview] = []
        self._state = self._map(state, STATE_SIZE)
        self._valid_until = self._view(self._state, "Q")
        self._place_count = self._view(self._state, "I")
        self._sets_map = self._map(sets, SETS * WAYS * WORD_SIZE)
        self._sets = self._view(self._sets_map, "I")
        self._pools = (
            SlotPool(self._map(small_map, small * SMALL_SIZE), SMALL_SIZE, small),
            SlotPool(self._map(large_map, large * LARGE_SIZE), LARGE_SIZE, large),
        )
        self._counts = self._map(counts, cpus * COUNT_SIZE)
        self.seed = int.from_bytes(os.urandom(8), "little") if seed is None else seed
        self._state[: STATE.size] = STATE.pack(0, self.seed, 0)
        self._first: list[Placed | None] = [None] * (small + large)
        """By slot (large slots after the small ones): the entry that was written last with this slot as its first."""
        self._resting: deque[tuple[float, list[Placed]]] = deque()
        self._unsettled: list[tuple[float, Placed]] = []
        """Removed entries without a number of their own. `take_uses` frees their slots after it has read their uses."""
        self._places = b""
        """The addresses and ports at which the program answers after the next heartbeat."""
        self._places_from: float | None = None
        """The earliest time at which `_places` may be written to the memory, or None if they are written."""
        self.entries = 0
        """The number of entries that the program may answer with."""
        self._slots_of = [0, 0]
        """The number of slots of these entries: small ones, and large ones."""
        self._is_used = bytearray(small + large)
        """By slot: 1 if the entry was used or written since `unused` last looked at the slot."""
        self._next_look = [0, small]
        """The slots of both pools at which `unused` looks next."""
        self._numbers = HitNumbers(self._counts, cpus)
        self._cpus = cpus
        self.denials = DenialFilter(self._valid_until, self._place_count)

    def _map(self, descriptor: int, size: int) -> mmap.mmap:
        found = mmap.mmap(descriptor, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        self._maps.append(found)
        return found

    def _view(self, memory: mmap.mmap, letter: str) -> memoryview:
        found: memoryview = memoryview(memory).cast(letter)  # type: ignore[call-overload]
        self._views.append(found)
        return found

    def close(self) -> None:
        """Unmaps the memory. Call `stop` before."""
        for pool in self._pools:
            pool.close()
        for view in self._views:
            view.release()
        for memory in self._maps:
            memory.close()

    # -- state

    def place(self, places: Sequence[Place]) -> None:
        """Sets the addresses and ports at which the program answers. At most PLACES of them are used.

        If they change, the program stops until the first heartbeat after LAST_REPLIES seconds.
        """
        wanted = b"".join(map(_pack, places[:PLACES]))
        if wanted == self._places:
            return
        if self._valid_until[VALID_UNTIL // 8]:
            self._places_from = self._clock() + LAST_REPLIES
        elif self._places_from is None:
            self._places_from = self._clock()
        self._places = wanted
        self.stop()
        order_stores()
        self._place_count[PLACE_CHANGES // 4] |= 1
        order_stores()
        self._place_count[PLACE_COUNT // 4] = 0

    def heartbeat(self, until: float) -> None:
        """Lets the program answer until the time `until` of `clock`.

        Does nothing in the LAST_REPLIES seconds after a change of the places.
        """
        if self._places_from is not None:
            if self._clock() < self._places_from:
                return
            self._state[STATE.size : STATE.size + len(self._places)] = self._places
            order_stores()
            self._place_count[PLACE_COUNT // 4] = len(self._places) // PLACE.size
            order_stores()
            self._place_count[PLACE_CHANGES // 4] = self._place_count[PLACE_CHANGES // 4] + 1 & 0xFFFFFFFF
            self._places_from = None
        self._valid_until[VALID_UNTIL // 8] = int(until * 1e9)

    def stop(self) -> None:
        """Stops the program: no packet that arrives afterwards is answered."""
        self._valid_until[VALID_UNTIL // 8] = 0

    # -- entries

    def put(
        self,
        key: bytes,
        wires: Sequence[bytes],
        table: int,
        hit_counter: HitCounter,
        until: int = FOREVER,
        next_second: int = 0,
        offsets: Sequence[Sequence[int]] = (),
        denial_of: tuple[bytes, int] | None = None,
    ) -> Placed | None:
        """Writes an entry. Returns None if there is no room for it.

        `wires` are the replies, at most ROTATIONS of them. Each has a tail of TAIL_MIN to LARGE octets. `until` and
        `next_second` are the fields `until` and `next` of `layout`. `offsets` are the offsets of the TTLs in each
        reply, or empty. The key must not be in the memory.

        For a denial, `key` is the key of the denial. `denial_of` is the key of a query with the reply `wires[0]`, and
        the number of octets of its header and question.
        """
        if denial_of is None:
            query, shown, kept = key, table, min([kept_end(key, wire) for wire in wires])
        else:
            (query, kept), shown = denial_of, table | DENIALS
        replies = Replies(key, query, wires, kept, shown, until, next_second, offsets)
        is_large = replies.longest_tail > SMALL
        pool, count = self._pools[is_large], len(wires)
        if len(pool.free) < count:
            self._wake()
            if len(pool.free) < count:
                return None
        digest = key_hash(key, self.seed, shown)
        word = (digest & SETS - 1) * WAYS
        ways = self._sets[word : word + WAYS].tolist()
        tag = key_tag(digest)
        if 0 not in ways or tag in [found >> TAG_SHIFT for found in ways]:
            return None
        word += ways.index(0)
        number = self._numbers.add_entry(hit_counter, table)
        slots = tuple(pool.free[-count:])
        del pool.free[-count:]
        pool.write(slots, replies, number)
        placed = Placed(key, table, word, is_large, slots, number, hit_counter, denial_of is not None)
        index = self._small + slots[0] if is_large else slots[0]
        self._first[index] = placed
        self._is_used[index] = 1
        self.entries += 1
        self._slots_of[is_large] += count
        order_stores()
        self._sets[word] = tag << TAG_SHIFT | (LARGE_CLASS if is_large else 0) | slots[0]
        return placed

    def remove(self, placed: Placed) -> None:
        """Removes an entry. No packet that arrives afterwards is answered with it."""
        self._sets[placed.word] = 0
        if placed.is_denial:
            self.denials.remove(placed.key)
        self.entries -= 1
        self._slots_of[placed.is_large] -= len(placed.slots)
        now = self._clock()
        self._numbers.remove_entries(placed.number, 1, now)
        if placed.number == UNNUMBERED:
            self._unsettled.append((now + COUNTER_REST, placed))
        else:
            self._resting.append((now + REST, [placed]))

    def remove_all(self, gone: list[Placed]) -> None:
        """Removes the entries in `gone`, a list that the caller must not use afterwards."""
        if len(gone) < self.entries:
            self._remove_some(gone)
            return
        self._sets_map[: SETS * WAYS * WORD_SIZE] = bytes(SETS * WAYS * WORD_SIZE)
        now = self._clock()
        self.entries, self._slots_of = 0, [0, 0]
        self.denials.clear()
        if self._numbers.entries[UNNUMBERED]:
            self._unsettled += [(now + COUNTER_REST, placed) for placed in gone if placed.number == UNNUMBERED]
            gone = [placed for placed in gone if placed.number != UNNUMBERED]
        self._numbers.remove_all_entries(now)
        if gone:
            self._resting.append((now + REST, gone))

    def _remove_some(self, gone: list[Placed]) -> None:
        sets, now = self._sets, self._clock()
        for placed in gone:
            sets[placed.word] = 0
            if placed.is_denial:
                self.denials.remove(placed.key)
        self.entries -= len(gone)
        for is_large in (False, True):
            self._slots_of[is_large] -= sum([len(one.slots) for one in gone if one.is_large == is_large])
        for number, entries in Counter([placed.number for placed in gone]).items():
            self._numbers.remove_entries(number, entries, now)
        self._unsettled += [(now + COUNTER_REST, placed) for placed in gone if placed.number == UNNUMBERED]
        numbered = [placed for placed in gone if placed.number != UNNUMBERED]
        if numbered:
            self._resting.append((now + REST, numbered))

    def _wake(self) -> None:
        """Frees the slots of some entries that were removed at least REST seconds ago."""
        resting, now = self._resting, self._clock()
        for _ in range(WAKE_STEP):
            if not resting or resting[0][0] > now:
                return
            gone = resting[0][1]
            placed = gone.pop()
            if not gone:
                resting.popleft()
            self._pools[placed.is_large].free.extend(placed.slots)

    def room(self, *, is_large: bool) -> tuple[int, int]:
        """Returns the number of free slots of a pool, and the number of all slots of the pool."""
        slots = len(self._first) - self._small if is_large else self._small
        return slots - self._slots_of[is_large], slots

    def unused(self, *, is_large: bool) -> Iterator[Placed | None]:
        """Yields each entry of a pool that was not used since the last call looked at it, and None for each other slot.

        Looks at each slot at most once. Begins after the slot where the last call ended. Call `take_uses` before.
        """
        begin, end = (self._small, len(self._first)) if is_large else (0, self._small)
        for _ in range(begin, end):
            index = self._next_look[is_large]
            self._next_look[is_large] = index + 1 if index + 1 < end else begin
            placed = self._first[index]
            if placed is None or self._is_used[index]:
                self._is_used[index] = 0
                yield None
            else:
                yield placed

    # -- counts

    @property
    def counts_uses(self) -> bool:
        """Returns True if `take_uses` must be called for exact metrics, because some hit counters have no number."""
        return bool(self._numbers.entries[UNNUMBERED] or self._unsettled)

    def take_hits(self) -> Iterator[tuple[HitCounter, int, int]]:
        """Yields each hit counter with hits since the last call, the number of its answer table, and these hits.

        Leaves out the hits of entries without a number (see `take_uses`).
        """
        return self._numbers.take(self._clock() - COUNTER_REST)

    def take_uses(self) -> Iterator[list[tuple[Placed, int]]]:
        """Yields, in steps, lists of entries that were used since the last call, and the number of uses.

        A yielded entry may have been removed meanwhile.
        """
        began = self._clock()
        for pool, first in zip(self._pools, (0, self._small), strict=True):
            for used in pool.take_uses():
                found = []
                for slot, uses in used:
                    self._is_used[first + slot] = 1
                    placed = self._first[first + slot]
                    if placed is not None:
                        found.append((placed, uses))
                yield found
        settled = [one for one in self._unsettled if one[0] < began]
        if settled:
            self._unsettled = self._unsettled[len(settled) :]
            self._resting.appendleft((0.0, [placed for _, placed in settled]))

    def counters(self) -> dict[str, int]:
        """Returns the totals of `COUNTERS` since the memory was made."""
        total = [0] * len(COUNTERS)
        for cpu in range(self._cpus):
            total = list(map(add, total, _TOTALS.unpack_from(self._counts, cpu * COUNT_SIZE)))
        return dict(zip(COUNTERS, total, strict=True))
