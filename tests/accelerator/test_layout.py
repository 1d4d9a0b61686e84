"""The layout of the shared memory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from svcdns.accelerator import layout


def test_elements_are_multiples_of_eight_octets() -> None:
    """The kernel rounds the size of an array's element up to 8 octets."""
    shapes = layout.map_shapes(1024, 16, 2)
    assert tuple(shapes) == layout.MAPS
    assert [size for size, _ in shapes.values()] == [8640, 64, 448, 1536, 8256]


@pytest.mark.parametrize(("octets", "expected"), [(b"", 0), (b"\x01\x02", 0x201), (b"\xff\xff\x01", 1), (b"\1\0\2", 3)])
def test_octet_sum(octets: bytes, expected: int) -> None:
    assert layout.octet_sum(octets) == expected


def test_key_hash_depends_on_seed_table_and_padding() -> None:
    seen = {layout.key_hash(key, seed, table) for key in (b"a", b"ab") for seed in (1, 2) for table in (0, 1, 255)}
    assert len(seen) == 12


@pytest.mark.parametrize("digest", [0, 1, 2**64 - 1])
def test_a_word_with_a_tag_is_never_empty(digest: int) -> None:
    assert 0 < layout.key_tag(digest) << layout.TAG_SHIFT < 1 << 8 * layout.WORD_SIZE
    assert layout.LARGE_CLASS | layout.SLOTS_MAX - 1 < 1 << layout.TAG_SHIFT


def test_label_bit_depends_on_both_ends_of_the_label() -> None:
    """Names that differ only in the beginning or only in the end of a long label have other bits."""
    labels = ["a", "ab", "com", "1-long-label-of-a-pod", "2-long-label-of-a-pod", "1-long-label-of-a-pob"]
    keys = [bytes(11) + bytes([len(label)]) + label.encode() + b"\x07default\x03svc\0" for label in labels]
    assert len({layout.label_bit(key) for key in keys}) == len(labels)
    assert max(map(layout.label_bit, keys)) < 64 * layout.DENIAL_LABELS


SOURCES = [Path(layout.__file__).with_name(name).read_text() for name in ("packet.bpf.h", "answers.bpf.c")]
DEFINES = {
    name: int(value, 0)
    for text in SOURCES
    for name, value in re.findall(r"#define (\w+) (0x[0-9a-f]+|\d+)(?:\s|$)", text)
}
SIZES = {"__u8": 1, "__u16": 2, "__u32": 4, "__u64": 8}


@pytest.mark.parametrize(
    "name",
    [
        *("DENIALS", "DENIAL_ENDS", "DENIAL_LABELS", "DENIAL_MIN_DEPTH", "DENIAL_MAX_DEPTH", "CASE"),
        *("KEY_MAX", "NAME_AT", "SMALL", "LARGE", "TAIL_MIN", "WAYS", "SETS", "ROTATIONS", "TTLS"),
        *("HIT_COUNTERS", "PLACES"),
        *("LARGE_CLASS", "PRIME", "TAG_SHIFT", "TAG_BITS"),
    ],
)
def test_constants_are_those_of_the_program(name: str) -> None:
    assert DEFINES[name] == getattr(layout, name)


def length_of(array: str) -> int:
    """Returns the number of elements from the text between the brackets: `TTLS`, `40` or `KEY_MAX / 8`."""
    name, _, divisor = array.partition(" / ")
    return (DEFINES[name] if name in DEFINES else int(name or 1)) // int(divisor or 1)


def fields(struct_name: str) -> dict[str, tuple[int, int]]:
    """Returns the offset and the size of each field of a struct of the program, which has no padding of its own."""
    body = re.search(rf"struct {struct_name} {{(.*?)\n}};", "".join(SOURCES), re.DOTALL)
    assert body is not None
    out, at = {}, 0
    for kind, names in re.findall(r"^\t(?:volatile )?(__[us]\d+) ([^;]+);", body[1], re.MULTILINE):
        for name, count in re.findall(r"(\w+)(?:\[([^\]]+)\])?(?:, |$)", names):
            size = SIZES[kind.replace("s", "u")] * length_of(count)
            out[name] = (at, size)
            at += size
    return out


def test_fields_of_a_head_are_those_of_the_program() -> None:
    found = fields("head")
    at, size = found.pop("header")
    assert found.pop("header_end")[0] == at + size == layout.HEAD_FIELDS["header"] + layout.NAME_AT - 2
    assert sum(found.pop("pad")) == layout.HEAD_SIZE
    assert {name: at for name, (at, _) in found.items()} | {"header": at} == layout.HEAD_FIELDS


def test_a_head_is_one_cache_line() -> None:
    """A slot has a whole number of cache lines. The program reads the first three of them for most replies."""
    assert layout.HEAD_SIZE == 64
    assert layout.SMALL_SIZE % 64 == layout.LARGE_SIZE % 64 == 0


def test_offsets_of_a_slot_are_those_of_the_program() -> None:
    found = fields("offsets")
    numbers = range(layout.TTLS + layout.ROTATIONS)
    packed = layout.OFFSETS.pack(*numbers)
    assert sum(size for _, size in found.values()) == layout.OFFSETS_SIZE
    assert [packed[found[name][0]] for name in ("ttl_at", "order")] == [0, layout.TTLS]


def test_fields_of_the_state_are_those_of_the_program() -> None:
    found = fields("state")
    expected = (layout.VALID_UNTIL, layout.SEED, layout.PLACE_COUNT)
    assert tuple(found[name][0] for name in ("valid_until", "seed", "places")) == expected
    assert found["denial_ends"] == (layout.DENIAL_ENDS_AT, 8 * layout.DENIAL_ENDS)
    assert found["denial_depths"] == (layout.DENIAL_DEPTHS, 4)
    assert found["place_changes"] == (layout.PLACE_CHANGES, 4)
    at, size = found["denial_labels"]  # after the places, which the test counts below
    assert (at, size) == (layout.STATE.size, 8 * layout.DENIAL_LABELS)
    assert at + layout.PLACES * layout.PLACE.size == layout.DENIAL_LABELS_AT == layout.STATE_SIZE - size
    assert sum(size for _, size in fields("place").values()) == layout.PLACE.size


def test_memory_of_the_program_has_the_size_of_its_fields() -> None:
    assert sum(size for _, size in fields("work").values()) == layout.WORK_SIZE


def test_counters_are_those_of_the_program() -> None:
    assert tuple(fields("counts")) == (*layout.COUNTERS, "hits")
    assert fields("counts")["hits"] == (layout.HITS_AT, 8 * layout.HIT_COUNTERS)
