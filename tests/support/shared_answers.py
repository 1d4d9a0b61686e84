"""Writes replies into the memory of `svcdns.accelerator.layout`: for tests of the program in the kernel."""

from __future__ import annotations

import mmap
import socket
import struct
import time
from collections.abc import Mapping, Sequence

from svcdns.accelerator import layout
from svcdns.accelerator.slot_pool import kept_end


def shared_memory(descriptor: int, size: int, elements: int) -> mmap.mmap:
    """Returns the memory of a map."""
    return mmap.mmap(descriptor, -(-size * elements // mmap.PAGESIZE) * mmap.PAGESIZE)


class SharedAnswers:
    """The memory of the maps. Slots are taken in order and never given back."""

    def __init__(self, maps: Mapping[str, int], small: int, large: int, cpus: int) -> None:
        """`maps` has the descriptors by name."""
        shapes = layout.map_shapes(small, large, cpus)
        self.memory = {name: shared_memory(maps[name], *shapes[name]) for name in layout.MAPS}
        self.small, self.cpus, self.seed, self.places = small, cpus, 0x1234567890ABCDEF, 0
        self.next = {"small": 0, "large": 0}

    def listen(self, address: str, port: int, table: int) -> None:
        """Adds a listener to the state, and makes the memory valid for an hour."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        place = layout.PLACE.pack(
            socket.inet_pton(family, address), socket.htons(port), 6 if ":" in address else 4, table
        )
        at = layout.STATE.size + self.places * layout.PLACE.size
        self.memory["state"][at : at + len(place)] = place
        self.places += 1
        valid = time.monotonic_ns() + 3600 * 10**9
        self.memory["state"][: layout.STATE.size] = layout.STATE.pack(valid, self.seed, self.places)

    def put(
        self,
        key: bytes,
        replies: Sequence[bytes],
        table: int,
        *,
        hit_counter: int = 0,
        until: int = layout.FOREVER,
        first_step: int = 0,
        ttl_at: Sequence[int] = (),
        denial_of: bytes | None = None,
    ) -> int:
        """Adds an entry. Returns the offset of its word in `sets`, or -1 if the set has no room for it.

        `denial_of` is the key of the query with the reply `replies[0]`, if `key` is the key of a denial.
        """
        query = denial_of or key
        kept = [kept_end(key, one) if denial_of is None else len(query) - (11 if query[9] else 0) for one in replies]
        digest = layout.key_hash(key, self.seed, table)
        at, tag = (digest & layout.SETS - 1) * layout.WAYS * layout.WORD_SIZE, layout.key_tag(digest)
        ways = struct.unpack_from(f"<{layout.WAYS}I", self.memory["sets"], at)
        if 0 not in ways or tag in {way >> layout.TAG_SHIFT for way in ways}:
            return -1
        pool, size = (
            ("small", layout.SMALL_SIZE)
            if max(len(reply) - end for reply, end in zip(replies, kept, strict=True)) <= layout.SMALL
            else ("large", layout.LARGE_SIZE)
        )
        slots = range(self.next[pool], self.next[pool] + len(replies))
        self.next[pool] += len(replies)
        for slot, reply, end in zip(slots, replies, kept, strict=True):
            head = layout.HEAD.pack(
                *(
                    2,
                    layout.sum_change(layout.octet_sum(query), layout.octet_sum(reply)),
                    until,
                    first_step,
                    0,
                    reply[: layout.NAME_AT],
                ),
                *(len(key), end, len(reply) - end, hit_counter, len(slots), table, len(ttl_at)),
            )
            offsets = layout.OFFSETS.pack(
                *(*ttl_at, *[0] * (layout.TTLS - len(ttl_at))), *(*slots, *[0] * (layout.ROTATIONS - len(slots)))
            )
            octets = head + key.ljust(layout.KEY_MAX, b"\0") + reply[end:]
            octets = octets.ljust(size - len(offsets), b"\0") + offsets
            self.memory[pool][slot * size : slot * size + len(octets)] = octets
        at += ways.index(0) * layout.WORD_SIZE
        word = tag << layout.TAG_SHIFT | (layout.LARGE_CLASS if pool == "large" else 0) | slots[0]
        struct.pack_into("<I", self.memory["sets"], at, word)
        return at

    def put_denial(self, key: bytes, label_at: int, reply: bytes, table: int) -> int:
        """Adds a denial for all names below the label at `label_at` of `key`. `reply` is the whole reply to `key`."""
        question_end = len(key) - (11 if key[9] else 0)
        depth, at = 0, label_at
        while key[at]:
            depth, at = depth + 1, at + 1 + key[at]
        name_end = int.from_bytes(key[question_end - 12 : question_end - 4], "little") | layout.CASE
        struct.pack_into("<Q", self.memory["state"], layout.DENIAL_ENDS_AT, name_end)
        struct.pack_into("<I", self.memory["state"], layout.DENIAL_DEPTHS, 1 << depth | 1 << layout.DENIAL_MIN_DEPTH)
        shared = key[:10] + bytes([label_at - 10]) + key[label_at:]
        bit = layout.label_bit(shared)
        struct.pack_into("<Q", self.memory["state"], layout.DENIAL_LABELS_AT + bit // 64 * 8, 1 << bit % 64)
        return self.put(shared, [reply], table | layout.DENIALS, denial_of=key)

    def remove(self, word_at: int) -> None:
        """Removes the entry whose word has this offset."""
        struct.pack_into("<I", self.memory["sets"], word_at, 0)

    def end(self) -> None:
        """Makes the memory invalid."""
        struct.pack_into("<Q", self.memory["state"], layout.VALID_UNTIL, 0)

    def uses(self) -> list[int]:
        """Returns the replies of each slot, small slots first."""
        pools = (("small", layout.SMALL_SIZE), ("large", layout.LARGE_SIZE))
        found = [
            memoryview(self.memory[pool]).cast("Q")[layout.USES_AT // 8 :: size // 8].tolist() for pool, size in pools
        ]
        return [*found[0][: self.small], *found[1]]

    def hits(self, hit_counter: int) -> int:
        """Returns the hits of a counter, of all CPUs."""
        return self._sum(len(layout.COUNTERS) + hit_counter)

    def count(self, name: str) -> int:
        """Returns a counter of `layout.COUNTERS`, of all CPUs."""
        return self._sum(layout.COUNTERS.index(name))

    def _sum(self, word: int) -> int:
        sizes = [cpu * layout.COUNT_SIZE + word * 8 for cpu in range(self.cpus)]
        return sum(struct.unpack_from("<Q", self.memory["counts"], at)[0] for at in sizes)

    def close(self) -> None:
        """Unmaps the memory."""
        for memory in self.memory.values():
            memory.close()
