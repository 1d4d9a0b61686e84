"""What plugins keep, on its way to the worker that takes this one's place."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import msgspec
import pytest

from svcdns.worker import cache_handover
from svcdns.worker.cache_handover import pack, unpack

KEY = ("cache", "dns://:53", (".",), "success")


class Keeper:
    """Keeps octets; one portion is not to be read."""

    def __init__(self, *portions: bytes) -> None:
        """What it has."""
        self.portions = list(portions)

    def pack(self, now: float) -> Iterator[bytes]:
        """One by one."""
        assert now == 1.0
        yield from self.portions

    def unpack(self, portion: bytes, now: float) -> None:
        """Takes one."""
        assert now == 2.0
        if portion == b"bad":
            raise msgspec.DecodeError
        self.portions.append(portion)


async def moved(old: dict[tuple[object, ...], object], new: dict[tuple[object, ...], object]) -> int:
    """Takes all of it over; how many portions were taken."""
    return await unpack(await pack(old, 1.0), new, 2.0, lambda: True)


async def test_it_goes_to_what_has_the_same_key() -> None:
    """In its order; what keeps nothing for others takes no part."""
    heir, other = Keeper(), Keeper()
    large = bytes(200_000)
    kept: dict[tuple[object, ...], object] = {KEY: Keeper(b"1", large, b"2"), ("gone",): Keeper(b"3"), ("connections",): object()}
    assert await moved(kept, {KEY: heir, ("new",): other, ("connections",): object()}) == 3
    assert heir.portions == [b"1", large, b"2"]
    assert other.portions == []


async def test_what_cannot_be_read_is_left_out() -> None:
    """The rest is taken."""
    heir = Keeper()
    assert await moved({KEY: Keeper(b"1", b"bad", b"2")}, {KEY: heir}) == 2
    assert heir.portions == [b"1", b"2"]


async def test_a_frame_that_is_cut_off_ends_it() -> None:
    """The worker before this one may have died over it."""
    fd = await pack({KEY: Keeper(b"1", b"2")}, 1.0)
    os.ftruncate(fd, os.fstat(fd).st_size - 1)
    heir = Keeper()
    assert await unpack(fd, {KEY: heir}, 2.0, lambda: False) == 1
    assert heir.portions == [b"1"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In octets."""
    monkeypatch.setattr(cache_handover, "MAX_OCTETS", 1000)
    heir = Keeper()
    await moved({KEY: Keeper(*[bytes(300)] * 10)}, {KEY: heir})
    assert len(heir.portions) == 2


async def test_it_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not packed by then stays behind."""
    monkeypatch.setattr(cache_handover, "MAX_SECONDS", 3.0)
    monkeypatch.setattr(cache_handover, "perf_counter", itertools.count().__next__)
    heir = Keeper()
    await moved({KEY: Keeper(*[b"1"] * 10)}, {KEY: heir})
    assert len(heir.portions) == 3
