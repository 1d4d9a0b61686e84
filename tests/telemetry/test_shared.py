"""The memory that all processes share."""

from __future__ import annotations

import os

from svcdns.telemetry.shared import CONTROL, REGION_SIZE, SLOTS, make, regions


def test_regions_are_apart_and_shared() -> None:
    """Two mappings of one descriptor show the same; a region is its owner's alone."""
    fd = make()
    try:
        one, other = regions(fd), regions(fd)
        assert len(one) == SLOTS + 1
        one[CONTROL + 1][REGION_SIZE - 1] = 7
        assert other[CONTROL + 1][REGION_SIZE - 1] == 7
        assert other[CONTROL + 2][0] == 0
        assert not any(other[CONTROL][:64])
    finally:
        os.close(fd)
