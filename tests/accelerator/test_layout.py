"""The layout of the shared memory."""

from __future__ import annotations

import pytest

from svcdns.accelerator import layout


def test_elements_are_multiples_of_eight_octets() -> None:
    """The kernel rounds the size of an array's element up to 8 octets."""
    shapes = layout.map_shapes(1024, 16, 2)
    assert tuple(shapes) == layout.MAPS
    assert [size for size, _ in shapes.values()] == [448, 64, 448, 1472, 8, 8256]


@pytest.mark.parametrize(("octets", "expected"), [(b"", 0), (b"\x01\x02", 0x201), (b"\xff\xff\x01", 1), (b"\1\0\2", 3)])
def test_octet_sum(octets: bytes, expected: int) -> None:
    assert layout.octet_sum(octets) == expected


def test_key_hash_depends_on_seed_table_and_padding() -> None:
    seen = {layout.key_hash(key, seed, table) for key in (b"a", b"ab") for seed in (1, 2) for table in (0, 1, 255)}
    assert len(seen) == 12
