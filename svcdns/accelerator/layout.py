"""The layout of the memory that a worker and the program in the kernel share, version 3.

The program is answers.bpf.c, and a test compares its constants with those of this module.
There are five maps, in the order of `MAPS`. Each is an array that both sides map into memory. All numbers are little
endian, except where network order is named.

| map    | elements                  | an element |
|--------|---------------------------|------------|
| state  | 1                         | `STATE`, then `PLACES` × `PLACE`, then `DENIAL_LABELS` × 64 bits |
| sets   | `SETS`                    | `WAYS` words of 32 bits: see below |
| small  | `small` of the greeting   | a slot with `SMALL` octets of tail: see below |
| large  | `large` of the greeting   | a slot with `LARGE` octets of tail |
| counts | `cpus` of the greeting    | `COUNTERS`, then `HIT_COUNTERS` hit counters: 64 bits each |

A key and a reply are DNS messages without their first two octets, the message ID. A slot consists of a head (`HEAD`),
`KEY_MAX` octets of key, the tail of the reply, and offsets (`OFFSETS`). A slot does not have the octets of the reply
from `NAME_AT` to `kept_end`, mostly the question: they are the same in the key, and the program leaves them in the
packet.

An entry has a slot for each of its replies (its rotations). Every slot of an entry holds the key (`key_len`, `table`
and the octets, zero-padded), `hit_counter`, and its own reply (`header`, `kept_end`, the tail, `tail_len`, `sum`,
`next`, `ttls`, `ttl_at`).
`until`, `rotations`, `order` and `uses` are for the first slot only.
`order` lists the entry's slots, the first one included.
The program adds 1 to `uses` for each reply of the entry.

A denial is an entry for all names below a nonexistent label. The key of a denial has the header, an octet with the
number of octets left of the label, and the octets from the label on. The worker computes the `sum` of a denial from the
query and the reply for one of the names. The tail of a denial begins after the question. The program does not read the
`kept_end` of a denial.
The program looks for a denial if no entry has the key of a query, and only if `state` permits the look-up:

- `DENIAL_ENDS_AT`: the last 8 octets of names with a denial, combined with CASE by a bitwise or;
- `DENIAL_DEPTHS`: bit d is set if a denial's label is the d-th label from the end of the name;
- `DENIAL_LABELS_AT`: bit `label_bit` is set for each denial.

A word of `sets` is `tag << 17 | class << 16 | slot` (see `key_tag`). The slot is the first one of
the entry. `class` is 1 for a large slot. An empty word is 0. All tags in a set are different.
"""

from __future__ import annotations

import struct
from typing import Final

LAYOUT: Final = 3
"""The version of this layout, and of the greeting of the helper."""
MAPS: Final = ("state", "sets", "small", "large", "counts")
"""The names of the maps, in the order in which the helper sends their descriptors."""

KEY_MAX: Final = 96
NAME_AT: Final = 10
"""The octets of a message's header without the message ID: where the name of a question begins in a key."""
SMALL: Final = 192
LARGE: Final = 1280
"""The octets of the longest tails."""
TAIL_MIN: Final = 2
WAYS: Final = 16
SETS: Final = 2048
ROTATIONS: Final = 32
TTLS: Final = 15
HIT_COUNTERS: Final = 1024
PLACES: Final = 16
DENIAL_ENDS: Final = 4
DENIAL_LABELS: Final = 1024
DENIALS: Final = 0x80
"""Added to the `table` of a slot if the slot's key is the key of a denial."""
UNLIKE: Final = b"\x02ns\x03dns"
"""No denial answers for names that begin with these labels."""
DENIAL_MIN_DEPTH: Final = 2
DENIAL_MAX_DEPTH: Final = 8

SMALL_SLOTS: Final = 16384
LARGE_SLOTS: Final = 512
"""The numbers of slots that the helper creates by default."""
SLOTS_MAX: Final = 65536
"""The largest number of slots in a pool: `order` holds slot numbers of 16 bits."""

STATE: Final = struct.Struct("<QQI44x")
"""`valid_until`, `seed`, and the number of places.

`valid_until` is a time in ns of CLOCK_MONOTONIC, after which the program answers nothing.

`DENIAL_ENDS`, `DENIAL_DEPTHS` and `PLACE_CHANGES` follow.
"""
VALID_UNTIL: Final = 0
SEED: Final = 8
PLACE_COUNT: Final = 16
DENIAL_ENDS_AT: Final = 24
DENIAL_DEPTHS: Final = 56
PLACE_CHANGES: Final = 60
"""32 bits: odd while the places change, and another number after each change."""
CASE: Final = 0x2020202020202020
PLACE: Final = struct.Struct("<16sHBB4x")
"""`address` (IPv4: 4 octets, then zeros), `port` (the two octets in network order), `family` (4 or 6), `table`.

`table` is the number of the answer table that listens there. Several places may have the same table.
"""
DENIAL_LABELS_AT: Final = STATE.size + PLACES * PLACE.size
STATE_SIZE: Final = DENIAL_LABELS_AT + 8 * DENIAL_LABELS

HEAD: Final = struct.Struct("<IIQQQ10sHHHHBBB11x")
"""The head of a slot, with the fields in the order of `HEAD_FIELDS`."""
HEAD_FIELDS: Final = {
    "serial": 0,  # odd while the slot is written
    "sum": 4,  # see `sum_change`
    "until": 8,  # ns; later, the packet is passed on
    "next": 16,  # ns: when the TTLs first go down by one, and then each second; 0 = never
    "uses": 24,
    "header": 32,  # the first `NAME_AT` octets of the reply
    "key_len": 42,
    "kept_end": 44,  # where the tail begins in the reply
    "tail_len": 46,
    "hit_counter": 48,  # below HIT_COUNTERS: the counter of `counts` to which a reply adds 1
    "rotations": 50,
    "table": 51,
    "ttls": 52,
}
"""The offset of each field."""
HEAD_SIZE: Final = HEAD.size
OFFSETS: Final = struct.Struct(f"<{TTLS}Hxx{ROTATIONS}H")
"""`ttl_at`: the offsets of the TTLs in the reply, and `order`: numbers of slots."""
OFFSETS_SIZE: Final = OFFSETS.size
KEY_AT: Final = HEAD_SIZE
TAIL_AT: Final = HEAD_SIZE + KEY_MAX
SMALL_SIZE: Final = TAIL_AT + SMALL + OFFSETS_SIZE
LARGE_SIZE: Final = TAIL_AT + LARGE + OFFSETS_SIZE
USES_AT: Final = HEAD_FIELDS["uses"]

FOREVER: Final = 2**63 - 1
"""The `until` of an entry without a deadline."""
LARGE_CLASS: Final = 1 << 16
"""The class bit of a word in `sets`."""
TAG_SHIFT: Final = 17
TAG_BITS: Final = 15
WORD_SIZE: Final = 4

COUNTERS: Final = ("octets", "stale", "expired", "unknown", "torn", "failed", "spare_0", "spare_1")
"""The counters before the hits: octets sent, packets passed on (stale, expired, unknown, failed) or dropped (torn)."""
COUNT_WORDS: Final = len(COUNTERS) + HIT_COUNTERS
HITS_AT: Final = 8 * len(COUNTERS)
COUNT_SIZE: Final = COUNT_WORDS * 8
WORK: Final = "work"
"""A map for the program alone, with an element for each CPU."""
WORK_SIZE: Final = 256

PRIME: Final = 0x9FB21C651E98DF25
_MASK: Final = 2**64 - 1
_WORDS: Final = struct.Struct("<12Q")


def key_hash(key: bytes, seed: int, table: int) -> int:
    """Returns the 64-bit hash of a key of the answer table `table`.

    The set is `hash & SETS - 1`. See also `key_tag`.
    """
    value = seed ^ (table + 1) * PRIME & _MASK
    for word in _WORDS.unpack(key.ljust(KEY_MAX, b"\0")):
        value = (value ^ word) * PRIME & _MASK
        value ^= value >> 32
    return value


def key_tag(digest: int) -> int:
    """Returns the tag of a key with this hash."""
    return digest >> 64 - TAG_BITS | 1


def label_bit(key: bytes) -> int:
    """Returns the bit of `DENIAL_LABELS_AT` for the key of a denial: a hash of both ends of its label."""
    last = 11 + max(0, key[11] - 7)
    first = int.from_bytes(key[11:19], "little") * PRIME & _MASK
    return ((first ^ int.from_bytes(key[last : last + 8], "little")) * PRIME & _MASK) >> 48


def octet_sum(octets: bytes) -> int:
    """Returns the ones' complement sum of `octets` as little-endian words of 16 bits (RFC 1071)."""
    return int.from_bytes(octets, "little") % 0xFFFF


def sum_change(before: int, after: int) -> int:
    """Returns the change of a sum from the sum of a query to the sum of its reply, at most 17 bits.

    The program adds the change to the UDP checksum (RFC 1624 §3).
    """
    return after + (~before & 0xFFFF)


def map_shapes(small: int, large: int, cpus: int) -> dict[str, tuple[int, int]]:
    """Returns the size of an element in octets and the number of elements, for each map of `MAPS`."""
    return {
        "state": (STATE_SIZE, 1),
        "sets": (WAYS * WORD_SIZE, SETS),
        "small": (SMALL_SIZE, small),
        "large": (LARGE_SIZE, large),
        "counts": (COUNT_SIZE, cpus),
    }


def program_shapes(small: int, large: int, cpus: int) -> dict[str, tuple[int, int]]:
    """Returns the shapes of all maps of the program: those of `map_shapes`, and of WORK, which no worker gets."""
    return {**map_shapes(small, large, cpus), WORK: (WORK_SIZE, cpus)}
