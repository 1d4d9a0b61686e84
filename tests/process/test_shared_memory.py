"""The regions of the shared memory. Each process writes its own region."""

from __future__ import annotations

import os

from svcdns.process.shared_memory import (
    REGION_SIZE,
    REGIONS,
    SIDES,
    SLOTS,
    control_region,
    create,
    other_side,
    regions,
    worker_region,
)


def test_regions_are_separate_and_shared() -> None:
    fd = create()
    try:
        one, other = regions(fd), regions(fd)
        assert len(one) == REGIONS
        one[1][REGION_SIZE - 1] = 7
        assert other[1][REGION_SIZE - 1] == 7
        assert other[2][0] == 0
        assert not any(other[0][:64])
    finally:
        os.close(fd)


def test_every_process_has_its_own_region_on_each_side() -> None:
    numbers = [control_region(side) for side in range(SIDES)]
    numbers += [worker_region(slot, side) for slot in range(SLOTS) for side in range(SIDES)]
    assert sorted(numbers) == list(range(REGIONS))
    assert all(other_side(other_side(number)) == number != other_side(number) for number in numbers)
    assert other_side(worker_region(5, 1)) == worker_region(5, 0)
