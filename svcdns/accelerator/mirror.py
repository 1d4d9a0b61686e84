"""Copies entries of an answer table into the memory of the program in the kernel.

Rules:

1. An entry is copied only if each client gets the entry's reply without the plugin chain, and no plugin observes the
   query.
2. A key is in the memory only while the table's index of dependencies has the key. So `AnswerTable.invalidate` finds
   the key, and removes its entry from the memory before the method returns.
3. An error in this code never interrupts a method of the table, such as `invalidate` (see `GuardedMirror`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, TypeVar

from svcdns.accelerator.denials import Denials
from svcdns.accelerator.layout import FOREVER, KEY_MAX, LARGE, ROTATIONS, SMALL, TTLS
from svcdns.accelerator.memory import Memory, Placed
from svcdns.accelerator.slot_pool import kept_end
from svcdns.chain.routing import Route
from svcdns.serving.answer_table import Entry
from svcdns.serving.responder import Responder
from svcdns.wire.codes import Rcode

SECOND: Final = 1_000_000_000
"""The nanoseconds of a second."""
MAX_TTL: Final = 2**31
"""A number of seconds that is larger than each TTL (RFC 2181 §8)."""
_Item = TypeVar("_Item")
_NONE: Final[Sequence[Sequence[int]]] = ()
MAX_REFUSED: Final = 4096
"""The largest number of keys in `TableMirror.refused`."""


def answers_packets(responder: Responder) -> bool:
    """Returns True if the stored replies of a responder depend only on the packets, and if no plugin counts or limits
    single packets.
    """
    return responder.datagrams and responder.uniform and responder.sampling is None


def _is_watched(route: Route) -> bool:
    """Returns True if a plugin must see or limit each query of a route."""
    return bool(route.observers or route.packet_observers or route.taps or route.limiter or route.sampler)


def _some(items: Sequence[_Item]) -> Sequence[_Item]:
    """Returns at most ROTATIONS of the items, evenly chosen."""
    if len(items) <= ROTATIONS:
        return items
    return [items[number * len(items) // ROTATIONS] for number in range(ROTATIONS)]


def _lowest_ttl(wires: Sequence[bytes], offsets: Sequence[Sequence[int]]) -> int:
    """Returns the lowest TTL of all replies, in seconds. `offsets` are the offsets of the TTLs in each reply."""
    ttls = [
        int.from_bytes(wire[at : at + 4], "big") for wire, found in zip(wires, offsets, strict=True) for at in found
    ]
    return min(ttls, default=MAX_TTL)


class TableMirror:
    """The copied entries of one answer table."""

    def __init__(self, responder: Responder, memory: Memory, number: int, longest: int = LARGE) -> None:
        """`number` is the number of the answer table in the memory.

        Replies of more than `longest` octets, without the id, are not copied.
        """
        self._longest = longest
        self.responder, self.table, self.number = responder, responder.table, number
        self.placed: dict[bytes, Placed] = {}
        """The entries in the memory, by key."""
        self.refused: dict[bytes, bool] = {}
        """Keys of entries for which the memory had no room. The value is true for entries of large slots."""
        self.has_unknown = False
        """True if `refused` was full when the memory had no room for a further entry."""
        self.fill = 0.0
        """The value of `AnswerTable.fill` when the used entries of the previous generation were looked up last."""
        self._memory = memory
        self._denials = Denials(responder, memory, number)
        self._is_open = answers_packets(responder)

    def put(self, entry: Entry) -> None:
        """Copies an entry, if the rules permit it and there is room. Does nothing if the memory has the key."""
        key, details = entry.key, entry.details
        if key in self.placed or not self._is_open or len(key) > KEY_MAX:
            return
        if _is_watched(entry.hit_counter.origin.route):
            return
        wires: Sequence[bytes] = entry.wires
        countdown = None
        if details is not None:
            if details.observed is not None or details.limited is not None:
                return
            countdown = details.countdown
        if len(wires) > 1:
            wires = _some(wires)
            shortest, longest = min(map(len, wires)), max(map(len, wires))
        else:
            shortest = longest = len(wires[0])
        if shortest <= len(key) or longest > self._longest:
            return
        until = FOREVER if entry.deadline == inf else int(entry.deadline * SECOND) - 1
        next_second, offsets = 0, _NONE
        if countdown is not None:
            offsets = _some(countdown.offsets)
            if max(map(len, offsets)) > TTLS:
                return
            next_second = max(1, int(entry.deadline * SECOND))
            until = min(int(countdown.ends * SECOND), next_second + _lowest_ttl(wires, offsets) * SECOND) - 1
        placed = self._memory.put(key, wires, self.number, entry.hit_counter, until, next_second, offsets)
        if placed is not None:
            self.placed[key] = placed
            if wires[0][1] & 0xF == Rcode.NXDOMAIN:
                self._denials.put(entry, until)
        elif len(self.refused) < MAX_REFUSED:
            self.refused[key] = longest - kept_end(key, wires[0]) > SMALL
        else:
            self.has_unknown = True

    def remove(self, key: bytes) -> None:
        """Removes the entry of a key from the memory, if there is one."""
        placed = self.placed.pop(key, None)
        if placed is not None:
            self._memory.remove(placed)
        self._denials.remove(key)

    def evict(self, placed: Placed) -> bool:
        """Removes an entry from the memory, but not from the table. The table calls `put` at the next use of the entry.

        Returns False if the entry is not in the memory.
        """
        if placed.is_denial:
            return self._denials.evict(placed)
        if self.placed.get(placed.key) is not placed:
            return False
        self.remove(placed.key)
        self.table.demote(placed.key)
        return True

    def clear(self) -> None:
        """Removes all entries from the memory."""
        gone, self.placed = [*self.placed.values(), *self._denials.take_all()], {}
        self.refused.clear()
        self.has_unknown = False
        if gone:
            self._memory.remove_all(gone)
        self._is_open = answers_packets(self.responder)  # a reload calls this with the new plugin chains


class GuardedMirror:
    """The mirror that an answer table calls. After an unexpected error, `failed` must end all use of the memory."""

    def __init__(self, mirror: TableMirror, failed: Callable[[Exception], None]) -> None:
        """`failed` must stop the program before it returns, and must not raise an exception."""
        self._mirror, self._failed = mirror, failed

    def put(self, entry: Entry) -> None:
        """Calls `TableMirror.put`."""
        try:
            self._mirror.put(entry)
        except Exception as error:  # noqa: BLE001  the table has the entry, and answers from it
            self._failed(error)

    def remove(self, key: bytes) -> None:
        """Calls `TableMirror.remove`."""
        try:
            self._mirror.remove(key)
        except Exception as error:  # noqa: BLE001  the table must remove its own entry too
            self._failed(error)

    def clear(self) -> None:
        """Calls `TableMirror.clear`."""
        try:
            self._mirror.clear()
        except Exception as error:  # noqa: BLE001  the table must remove its own entries too
            self._failed(error)
