"""A model of the program in the kernel: it reads the memory of the accelerator as answers.bpf.c does."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Sequence
from random import Random
from struct import pack_into, unpack_from
from typing import Any

from svcdns.accelerator.layout import (
    CASE,
    COUNT_SIZE,
    COUNTERS,
    DENIAL_DEPTHS,
    DENIAL_ENDS,
    DENIAL_ENDS_AT,
    DENIAL_LABELS_AT,
    DENIAL_MAX_DEPTH,
    DENIAL_MIN_DEPTH,
    DENIALS,
    HEAD,
    HEAD_FIELDS,
    HITS_AT,
    KEY_AT,
    KEY_MAX,
    LARGE_CLASS,
    LARGE_SIZE,
    MAPS,
    NAME_AT,
    OFFSETS,
    OFFSETS_SIZE,
    PLACE,
    PLACE_CHANGES,
    SETS,
    SMALL_SIZE,
    STATE,
    TAG_SHIFT,
    TAIL_AT,
    TTLS,
    UNLIKE,
    USES_AT,
    WAYS,
    WORD_SIZE,
    key_hash,
    key_tag,
    label_bit,
    map_shapes,
    octet_sum,
    sum_change,
)


def make_maps(small: int = 64, large: int = 8, cpus: int = 2) -> list[int]:
    """Returns descriptors of files in memory with the sizes of the maps, in the order of MAPS."""
    descriptors = []
    for name, (size, elements) in map_shapes(small, large, cpus).items():
        descriptor = os.memfd_create(name)
        os.ftruncate(descriptor, -(-size * elements // mmap.PAGESIZE) * mmap.PAGESIZE)
        descriptors.append(descriptor)
    return descriptors


class KernelProgram:
    """Answers packets from the memory, and counts them."""

    def __init__(self, descriptors: Sequence[int], seed: int = 0) -> None:
        """`descriptors` are those of the maps. `seed` is for the choice of rotations and of CPUs."""
        self._maps = {
            name: mmap.mmap(descriptor, os.fstat(descriptor).st_size)
            for name, descriptor in zip(MAPS, descriptors, strict=True)
        }
        self._random = Random(seed)
        self.cpus = os.fstat(descriptors[-1]).st_size // COUNT_SIZE

    def close(self) -> None:
        """Unmaps the memory."""
        for memory in self._maps.values():
            memory.close()

    def places(self) -> list[tuple[str, int, int]]:
        """Returns the address, port and table number of each place."""
        found: list[tuple[str, int, int]] = []
        if unpack_from("<I", self._maps["state"], PLACE_CHANGES)[0] & 1:
            return found
        for number in range(STATE.unpack_from(self._maps["state"])[2]):
            address, port, family, table = PLACE.unpack_from(self._maps["state"], STATE.size + number * PLACE.size)
            kind = socket.AF_INET if family == 4 else socket.AF_INET6
            octets = address[:4] if family == 4 else address
            found.append((socket.inet_ntop(kind, octets), socket.ntohs(port), table))
        return found

    def packet(self, packet: bytes, address: str, port: int, now: float) -> bytes | None:
        """Returns the reply to a packet, or None if the packet is passed on."""
        table = next((table for *place, table in self.places() if place == [address, port]), None)
        if table is None or not 17 <= len(packet) <= KEY_MAX + 2:
            return None
        wires = self.replies(packet[2:], table, now, count=True)
        return packet[:2] + wires[0] if wires else None

    def replies(self, key: bytes, table: int, now: float, *, count: bool = False) -> list[bytes]:
        """Returns all replies with which the program may answer a key at the time `now`, in seconds. Empty for none.

        If `count` is true, returns only one of them, and counts it, or counts why there is none.
        """
        ns = round(now * 1e9)
        valid_until, seed, _ = STATE.unpack_from(self._maps["state"])
        digest = key_hash(key, seed, table)
        words = self._words(digest)
        if not words:
            return self._passed("unknown", count=count)
        pool, size = ("large", LARGE_SIZE) if words[0] & LARGE_CLASS else ("small", SMALL_SIZE)
        slot = words[0] & LARGE_CLASS - 1
        memory = self._maps[pool]
        head = self._head(memory, slot * size, size)
        known = memory[slot * size + KEY_AT : slot * size + KEY_AT + KEY_MAX]
        if known != key.ljust(KEY_MAX, b"\0") or head["key_len"] != len(key) or head["table"] != table:
            return self._passed("unknown", count=count)
        if valid_until < ns:
            return self._passed("stale", count=count)
        if ns > head["until"]:
            return self._passed("expired", count=count)
        order = head["order"][: head["rotations"]] if head["rotations"] > 1 else [slot]
        if count:
            order = [self._random.choice(order)]
            self._add("counts", self._random.randrange(self.cpus) * COUNT_SIZE + HITS_AT + head["hit_counter"] * 8, 1)
            self._add(pool, slot * size + USES_AT, 1)
        return [self._reply(memory, turn * size, size, ns) for turn in order]

    def denial(self, key: bytes, table: int, now: float) -> bytes | None:
        """Returns the reply of a denial to a key at the time `now`, or None if there is none."""
        state = self._maps["state"]
        question_end = len(key) - (11 if key[9] == 1 else 0)
        name_end = int.from_bytes(key[question_end - 12 : question_end - 4], "little") | CASE
        if key[10:].lower().startswith(UNLIKE) or name_end not in unpack_from(
            f"<{DENIAL_ENDS}Q", state, DENIAL_ENDS_AT
        ):
            return None
        starts, at = [], 10
        while key[at]:
            starts.append(at)
            at += 1 + key[at]
        for depth in range(DENIAL_MAX_DEPTH, DENIAL_MIN_DEPTH - 1, -1):
            if len(starts) >= depth and unpack_from("<I", state, DENIAL_DEPTHS)[0] >> depth & 1:
                at = starts[len(starts) - depth]
                shared = key[:10] + bytes((at - 10,)) + key[at:]
                bit = label_bit(shared)
                if not unpack_from("<Q", state, DENIAL_LABELS_AT + bit // 64 * 8)[0] >> bit % 64 & 1:
                    continue
                slot = self._small_slot(shared, table | DENIALS)
                if slot >= 0 and round(now * 1e9) <= self._head(self._maps["small"], slot, SMALL_SIZE)["until"]:
                    head = self._head(self._maps["small"], slot, SMALL_SIZE)
                    tail = self._maps["small"][slot + TAIL_AT : slot + TAIL_AT + head["tail_len"]]
                    wire: bytes = head["header"] + key[NAME_AT:question_end] + tail
                    assert (head["sum"] - sum_change(octet_sum(key), octet_sum(wire))) % 0xFFFF == 0
                    return wire
        return None

    def _small_slot(self, key: bytes, table: int) -> int:
        """Returns the offset of the small slot of a key, or -1."""
        digest = key_hash(key, STATE.unpack_from(self._maps["state"])[1], table)
        for word in self._words(digest):
            slot = (word & LARGE_CLASS - 1) * SMALL_SIZE
            if self._maps["small"][slot + KEY_AT :][: len(key)] == key:
                return int(slot)
        return -1

    def _words(self, digest: int) -> list[int]:
        """Returns the words of a key's set that have the tag of the key."""
        ways = unpack_from(f"<{WAYS}I", self._maps["sets"], (digest & SETS - 1) * WAYS * WORD_SIZE)
        return [word for word in ways if word >> TAG_SHIFT == key_tag(digest)]

    def _head(self, memory: mmap.mmap, at: int, size: int) -> dict[str, Any]:
        found: dict[str, Any] = dict(zip(HEAD_FIELDS, HEAD.unpack_from(memory, at), strict=True))
        offsets = OFFSETS.unpack_from(memory, at + size - OFFSETS_SIZE)
        found["ttl_at"], found["order"] = offsets[:TTLS], offsets[TTLS:]
        assert found["serial"] % 2 == 0
        return found

    def _reply(self, memory: mmap.mmap, at: int, size: int, ns: int) -> bytes:
        head = self._head(memory, at, size)
        key = memory[at + KEY_AT : at + KEY_AT + head["key_len"]]
        tail = memory[at + TAIL_AT : at + TAIL_AT + head["tail_len"]]
        wire = bytearray(head["header"] + key[NAME_AT : head["kept_end"]] + tail)
        assert head["sum"] == sum_change(octet_sum(key), octet_sum(bytes(wire)))
        if head["next"] and ns >= head["next"]:
            steps = (ns - head["next"]) // 1_000_000_000 + 1
            for offset in head["ttl_at"][: head["ttls"]]:
                (ttl,) = unpack_from(">I", wire, offset)
                pack_into(">I", wire, offset, ttl - steps)  # raises an error if the TTL is too low
        return bytes(wire)

    def _passed(self, reason: str, *, count: bool) -> list[bytes]:
        if count:
            self._add("counts", COUNTERS.index(reason) * 8, 1)
        return []

    def _add(self, name: str, at: int, amount: int) -> None:
        memory = self._maps[name]
        pack_into("<Q", memory, at, unpack_from("<Q", memory, at)[0] + amount)
