"""Writes replies into the slots of one map (`small` or `large` of `layout`), and reads how often they were used."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple, cast

from svcdns.accelerator.layout import (
    HEAD,
    KEY_MAX,
    NAME_AT,
    OFFSETS_SIZE,
    ROTATIONS,
    TAIL_MIN,
    TTLS,
    USES_AT,
    octet_sum,
    sum_change,
)
from svcdns.accelerator.store_order import order_stores

USES_STEP: Final = 256
"""The number of slots in a step of `SlotPool.take_uses`."""

_OFFSETS: Final = tuple(Struct(f"<{count}H{2 * (TTLS - count) + 2}x") for count in range(TTLS + 1))
_ORDERS: Final = tuple(Struct(f"<{count}H{2 * (ROTATIONS - count)}x") for count in range(ROTATIONS + 1))
_NO_OFFSETS: Final = _OFFSETS[0].pack()
_NO_ORDER: Final = _ORDERS[0].pack()


class Replies(NamedTuple):
    """What the slots of an entry have in common, and the replies, one for each slot.

    `table` includes DENIALS for a denial. `query` is the key of a query with these replies: another key than `key` for
    a denial. `kept_end` is a field of `layout`. `offsets` are the offsets of the TTLs in each reply, or empty.
    """

    key: bytes
    query: bytes
    wires: Sequence[bytes]
    kept_end: int
    table: int
    until: int
    next_second: int
    offsets: Sequence[Sequence[int]]

    @property
    def longest_tail(self) -> int:
        """Returns the octets of the longest tail."""
        wires = self.wires
        return (len(wires[0]) if len(wires) == 1 else max(map(len, wires))) - self.kept_end


def kept_end(key: bytes, wire: bytes) -> int:
    """Returns the offset up to which a key and a reply have the same octets from NAME_AT on.

    At least TAIL_MIN octets of the reply follow.
    """
    end = min(len(key), len(wire) - TAIL_MIN)
    if key[NAME_AT:end] == wire[NAME_AT:end]:
        return max(NAME_AT, end)
    differ = int.from_bytes(key[NAME_AT:end], "little") ^ int.from_bytes(wire[NAME_AT:end], "little")
    return NAME_AT + ((differ & -differ).bit_length() - 1) // 8


class SlotPool:
    """The slots of one map."""

    def __init__(self, memory: mmap.mmap, size: int, slots: int) -> None:
        """`size` is the number of octets of a slot, and `slots` is the number of slots."""
        self.slots = slots
        self.free = list(range(slots - 1, -1, -1))
        """The numbers of the slots that may be written. `Memory` decides when a slot is free again."""
        self._memory, self._size = memory, size
        view = memoryview(cast("Any", memory))
        self._serials: memoryview = view.cast("I")
        self._uses: memoryview = view.cast("Q")[USES_AT // 8 : slots * size // 8 : size // 8]
        self._used = [0] * slots
        """The uses of each slot at the last call of `take_uses`."""

    def close(self) -> None:
        """Releases the memory, so that it can be unmapped."""
        self._serials.release()
        self._uses.release()

    def write(self, slots: Sequence[int], replies: Replies, hit_counter: int) -> None:
        """Writes an entry into its slots. `hit_counter` is the number of the entry's hit counter.

        The first slot is written last, and the program finds the other slots only through the first one. A packet may
        have been in the program since an earlier entry used these slots: it gets no old reply from another slot.
        """
        memory, size, serials, used = self._memory, self._size, self._serials, self._used
        key, query, wires, kept, table, until, next_second, offsets = replies
        padded, query_sum, count = key.ljust(KEY_MAX, b"\0"), octet_sum(query), len(slots)
        rotations, order, ttl_at, ttls = 1, _NO_ORDER, _NO_OFFSETS, 0
        for turn in range(count - 1, -1, -1):
            slot, wire = slots[turn], wires[turn]
            if not turn and count > 1:
                rotations, order = count, _ORDERS[count].pack(*slots)
            if offsets:
                ttls = len(offsets[turn])
                ttl_at = _OFFSETS[ttls].pack(*offsets[turn])
            at, tail = slot * size, wire[kept:]
            serial = serials[at >> 2] + 1 & 0xFFFFFFFF
            head = HEAD.pack(
                *(serial, sum_change(query_sum, octet_sum(wire)), until, next_second, 0, wire[:NAME_AT]),
                *(len(key), kept, len(tail), hit_counter, rotations, table, ttls),
            )
            octets = head + padded + tail
            serials[at >> 2] = serial
            order_stores()
            memory[at : at + len(octets)] = octets
            if ttls or rotations > 1:
                memory[at + size - OFFSETS_SIZE : at + size] = ttl_at + order
            order_stores()
            serials[at >> 2] = serial + 1 & 0xFFFFFFFF
            used[slot] = 0

    def take_uses(self) -> Iterator[list[tuple[int, int]]]:
        """Yields, in steps, lists of the slots that were used since the last call, and the number of uses."""
        uses, used = self._uses, self._used
        for at in range(0, self.slots, USES_STEP):
            now, before = uses[at : at + USES_STEP].tolist(), used[at : at + USES_STEP]
            if now != before:
                used[at : at + USES_STEP] = now
                yield [
                    (slot, after - earlier)
                    for slot, (after, earlier) in enumerate(zip(now, before, strict=True), at)
                    if after != earlier
                ]
