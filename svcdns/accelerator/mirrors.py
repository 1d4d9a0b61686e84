"""Keeps the mirrors of a worker's answer tables while the worker is connected to the helper.

Once a second, `steps` adds the replies of the program to the metrics. `steps` also looks up the entries that only the
program uses, so that the answer tables do not discard these entries.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from svcdns.accelerator.hit_numbers import UNNUMBERED
from svcdns.accelerator.layout import LARGE, PLACES
from svcdns.accelerator.memory import COUNTER_REST, Memory, Place, Placed
from svcdns.accelerator.metrics import DROPPED, ENTRIES, PASSED, PASSED_REASONS, REPLIES
from svcdns.accelerator.mirror import GuardedMirror, TableMirror, answers_packets
from svcdns.accelerator.name_samples import Used, write_samples
from svcdns.eventloop.clock import Clock
from svcdns.serving.listeners import Listeners
from svcdns.serving.listening_sockets import ListeningSocket
from svcdns.serving.metrics import HitCounter
from svcdns.serving.metrics_flush import flush
from svcdns.serving.responder import Responder
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.query_samples import UNKNOWN

STEP: Final = 64
"""The number of slots that one step looks at."""
SCARCE: Final = 16
"""Slots are scarce if at most 1/SCARCE of them are free. Then unused entries are removed from the memory."""
ENOUGH: Final = 8
"""Unused entries are removed from the memory until 1/ENOUGH of its slots are free."""
MAX_EVICTED: Final = 1024
"""The most entries that leave the memory in a second because slots are scarce."""
AGING: Final = 60.0
"""The smallest number of seconds between two calls of `AnswerTable.start_generation_of_used`.

Each call may discard entries that were not used in the last minutes.
"""
LOOK: Final = 10.0
"""The largest number of seconds between two searches for used entries of a previous generation."""
LOOK_FILL: Final = 1 / 8
"""The largest growth of `AnswerTable.fill` between two searches. Several searches come before a new generation."""
DURATION: Final = 1e-6
"""The duration in seconds with which a reply of the program is counted."""


class Mirrors:
    """Connects answer tables with the memory of the program."""

    def __init__(
        self,
        memory: Memory,
        addresses: Sequence[str],
        listeners: Listeners,
        counters: Counters,
        clock: Clock,
        failed: Callable[[Exception], None],
        longest: int = LARGE,
    ) -> None:
        """`addresses` are the addresses of the interface at which the program answers.

        `failed` is called after an unexpected error while an answer table changes. The callback must call `end`.
        `longest` is the length in octets, without the id, of the longest replies that the program may send.
        """
        self.memory, self._failed, self._longest = memory, failed, longest
        self._addresses = dict.fromkeys(map(_packed, addresses))
        self._listeners, self._counters, self._clock = listeners, counters, clock
        self._mirrors: dict[int, TableMirror] = {}
        """The mirrors by the number of their table."""
        self._guarded: dict[int, GuardedMirror] = {}
        """The mirrors that the tables call, by the number of the table."""
        self._gone: dict[int, float] = {}
        """Numbers of tables that have no place any more, and since when."""
        self._unfilled: list[TableMirror] = []
        self.places = 0
        """The number of addresses and ports at which the program answers."""
        self._recorded: frozenset[int] = frozenset()
        """The numbers of tables whose queries were sampled a second ago (plugin *traffic*)."""
        self._next_aging = 0.0
        """The earliest time of the next call of `AnswerTable.start_generation_of_used` (see AGING)."""
        self._next_look = 0.0
        """The time at which used entries of previous generations are looked for, also if no table has grown."""
        self._passed = dict.fromkeys((*PASSED_REASONS, "torn"), 0)

    # -- places

    def place(self) -> int:
        """Sets the addresses and ports at which the program answers. Call it after each change of the listeners.

        Returns the number of pairs of address and port for which there is no room.
        """
        places: dict[tuple[bytes, int], Place] = {}
        for one in sorted(self._listeners.datagram_sockets, key=_order):
            address, port = one.sock.getsockname()[:2]
            bound = _packed(address)
            for found in self._addresses if not any(bound) else [bound]:
                reader = one.reader
                if len(found) != len(bound) or found not in self._addresses or (found, port) in places:
                    continue
                table = -1
                if reader is not None and answers_packets(reader.responder):
                    table = self._mirror(reader.responder).number
                places[found, port] = Place(_text(found), port, table)
        used = [place for place in places.values() if place.table >= 0]
        self.memory.place(used)
        self.places = min(len(used), PLACES)
        self._detach({place.table for place in used[:PLACES]})
        self._unfilled = [mirror for number, mirror in self._mirrors.items() if number not in self._gone]
        return max(0, len(used) - PLACES)

    def _mirror(self, responder: Responder) -> TableMirror:
        """Returns the mirror of a responder's answer table."""
        for number, mirror in self._mirrors.items():
            if mirror.responder is responder:
                if self._gone.pop(number, None) is not None:
                    mirror.clear()  # a reload may have replaced the plugin chains meanwhile
                self._attach(mirror)
                return mirror
        number = next(number for number in range(len(self._mirrors) + 1) if number not in self._mirrors)
        mirror = self._mirrors[number] = TableMirror(responder, self.memory, number, self._longest)
        self._attach(mirror)
        return mirror

    def _attach(self, mirror: TableMirror) -> None:
        guarded = self._guarded[mirror.number] = GuardedMirror(mirror, self._failed)
        mirror.table.mirror = guarded

    def _is_attached(self, mirror: TableMirror) -> bool:
        return mirror.table.mirror is self._guarded[mirror.number]

    def _detach(self, stay: set[int]) -> None:
        """Detaches the mirrors of all tables except the tables in `stay`."""
        for number, mirror in self._mirrors.items():
            if number not in stay and number not in self._gone:
                self._gone[number] = self._clock()
                mirror.table.mirror = None
                mirror.clear()

    def end(self) -> None:
        """Stops the program, and detaches all mirrors."""
        try:
            self.memory.stop()
        finally:
            for mirror in self._mirrors.values():
                if self._is_attached(mirror):
                    mirror.table.mirror = None

    def finish(self) -> None:
        """Adds the last replies of the program to the metrics, and unmaps the memory.

        Call it shortly after `end`, when the program has sent its last reply.
        """
        try:
            self._count()
            for placed, uses in [one for found in self.memory.take_uses() for one in found]:
                if placed.number == UNNUMBERED:
                    self._add(placed.hit_counter, placed.table, uses)
            self._count_packets()
        finally:
            self._counters.set(self._counters.cell(ENTRIES), 0)
            self.memory.close()

    # -- once a second

    def steps(self) -> Iterator[None]:
        """Adds replies to the metrics, and keeps, evicts and copies entries, in steps. Run it once a second."""
        began = self._clock()
        self._count()
        yield from self._keep_used()
        yield from self._evict()
        yield from self._fill()
        yield from self._retry()
        self._count_packets()
        self._free_numbers(began)

    def _count(self) -> None:
        for hit_counter, table, hits in self.memory.take_hits():
            self._add(hit_counter, table, hits)

    def _add(self, hit_counter: HitCounter, table: int, hits: int) -> None:
        """Adds replies of the program to a hit counter."""
        mirror = self._mirrors[table]
        if hit_counter.hits == hit_counter.flushed:
            mirror.table.dirty.append(hit_counter)
        hit_counter.hits += hits
        mirror.responder.durations.observe(DURATION, hits)
        self._counters.count(REPLIES, mirror.responder.listener.server, amount=hits)

    def _count_packets(self) -> None:
        """Adds the packets without a reply to the metrics."""
        totals = self.memory.counters()
        for reason, before in self._passed.items():
            if totals[reason] > before:
                family, labels = (DROPPED, ()) if reason == "torn" else (PASSED, (reason,))
                self._counters.count(family, *labels, amount=totals[reason] - before)
                self._passed[reason] = totals[reason]
        self._counters.set(self._counters.cell(ENTRIES), self.memory.entries)

    def _keep_used(self) -> Iterator[None]:
        """Counts the program's uses of entries as look-ups in the answer tables, so that the entries stay.

        Does nothing if nobody needs the uses now, because reading them takes a few milliseconds.
        """
        began = self._clock()
        mirrors = self._mirrors.items()
        before = self._recorded
        recorded = self._recorded = frozenset(
            number for number, one in mirrors if one.responder.listener.records_traffic
        )
        aging = any(self._is_aging(mirror, began) for mirror in self._mirrors.values())
        if not (recorded or aging or self.memory.counts_uses or any(map(self._scarce, (False, True)))):
            return
        sampled: list[Used] = []
        for found in self.memory.take_uses():
            now = self._clock()
            for placed, uses in found:
                if placed.number == UNNUMBERED:
                    self._add(placed.hit_counter, placed.table, uses)
                mirror = self._mirrors.get(placed.table)
                key = placed.key
                if mirror is None or mirror.placed.get(key) is not placed:
                    continue  # removed meanwhile, perhaps long ago
                table = mirror.table
                if table.previous and key not in table.current:
                    table.find(key, now)
                if placed.table in recorded and placed.table in before:
                    sampled.append(_used(mirror, placed, uses))
            yield
        self._next_look = began + LOOK
        for mirror in self._mirrors.values():
            mirror.fill = mirror.table.fill
        if sampled:
            write_samples(self._listeners.ring, self._clock(), sampled)

    def _is_aging(self, mirror: TableMirror, now: float) -> bool:
        """Returns True if used entries of the table's previous generation must be looked up, so that they stay."""
        table = mirror.table
        if not any(table.previous):
            return False
        return now >= self._next_look or not mirror.fill <= table.fill < mirror.fill + LOOK_FILL

    def _scarce(self, is_large: bool) -> bool:
        return self._spare(is_large=is_large) <= 0

    def _evict(self) -> Iterator[None]:
        """Removes unused entries from the memory if slots are scarce. The entries stay in their tables."""
        for is_large in (False, True):
            if self._scarce(is_large):
                free, slots = self.memory.room(is_large=is_large)
                yield from self._evict_from(slots // ENOUGH - free, is_large=is_large)

    def _evict_from(self, missing: int, *, is_large: bool) -> Iterator[None]:
        evicted = 0
        for turn, placed in enumerate(self.memory.unused(is_large=is_large), 1):
            mirror = None if placed is None else self._mirrors.get(placed.table)
            if placed is not None and mirror is not None and mirror.evict(placed):
                evicted += 1
                missing -= len(placed.slots)
                if evicted >= MAX_EVICTED or missing <= 0:
                    return
            if turn % STEP == 0:
                yield

    def _fill(self) -> Iterator[None]:
        """Copies all entries of the tables whose mirrors are new."""
        while self._unfilled:
            mirror = self._unfilled.pop()
            for entry in mirror.table.usable(self._clock()):
                if not self._is_attached(mirror):
                    break
                mirror.put(entry)
                yield

    def _retry(self) -> Iterator[None]:
        """If there is room again, causes a copy of each entry that had no room, at the next use of the entry."""
        now = self._clock()
        rooms = [self._spare(is_large=False), self._spare(is_large=True)]
        for mirror in tuple(self._mirrors.values()):
            for key, is_large in tuple(mirror.refused.items()):
                if rooms[is_large] > 0 and mirror.refused.pop(key, None) is not None:
                    rooms[is_large] -= 1
                    mirror.table.demote(key)
                yield
            if mirror.has_unknown and rooms[False] > 0 and now >= self._next_aging:
                self._next_aging = now + AGING
                mirror.has_unknown = False
                mirror.table.start_generation_of_used()

    def _spare(self, *, is_large: bool) -> int:
        """Returns the number of free slots, without the slots that are reserved for new entries."""
        free, slots = self.memory.room(is_large=is_large)
        return free - slots // SCARCE

    def _free_numbers(self, counted: float) -> None:
        """Frees the numbers of tables whose last replies are counted: the metrics have all replies before `counted`."""
        present = self._listeners.responders
        for number, since in tuple(self._gone.items()):
            responder = self._mirrors[number].responder
            if responder not in present:
                for _ in flush(responder):
                    pass
            if counted > since + 2 * COUNTER_REST:
                del self._gone[number], self._mirrors[number], self._guarded[number]


def _order(one: ListeningSocket) -> tuple[bool, bool]:
    """Returns a sort key: sockets bound to one address first, as the kernel prefers them, then sockets with a reader.

    The sockets of other workers have no reader here.
    """
    return one.description.wildcard, one.reader is None


def _used(mirror: TableMirror, placed: Placed, uses: int) -> Used:
    entry = mirror.table.current.get(placed.key)
    rcode = UNKNOWN if entry is None else entry.wires[0][1] & 15
    family = mirror.responder.metrics.family
    return Used(placed.key, uses, rcode, family, entry is not None and entry.is_local)


def _packed(address: str) -> bytes:
    """Returns the 4 or 16 octets of an address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address.partition("%")[0])


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
