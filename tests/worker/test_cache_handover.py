"""Hand-over of plugins' state, such as cache entries, from a worker to its successor."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import msgspec
import pytest

from svcdns.process.framing import framed
from svcdns.worker import cache_handover
from svcdns.worker.cache_handover import pack, unpack

KEY = ("cache", "dns://:53", (".",), "success")


class Kept:
    """State that consists of octets. The portion `bad` cannot be decoded."""

    def __init__(self, *portions: bytes) -> None:
        """Sets the portions of the state."""
        self.portions = list(portions)

    def pack(self, now: float) -> Iterator[bytes]:
        assert now == 1.0
        yield from self.portions

    def unpack(self, portion: bytes, now: float) -> None:
        """Adds the portion. Raises DecodeError for `bad`."""
        assert now == 2.0
        if portion == b"bad":
            raise msgspec.DecodeError
        self.portions.append(portion)


async def moved(old: dict[tuple[object, ...], object], new: dict[tuple[object, ...], object]) -> int:
    """Hands over all state from `old` to `new`, and returns the number of imported portions."""
    return await unpack(await pack(old, 1.0), new, 2.0, lambda: True)


async def test_state_goes_to_the_object_of_the_same_key() -> None:
    """Objects without state are ignored."""
    successor, other = Kept(), Kept()
    large = bytes(200_000)
    kept: dict[tuple[object, ...], object] = {
        KEY: Kept(b"1", large, b"2"),
        ("gone",): Kept(b"3"),
        ("connections",): object(),
    }
    assert await moved(kept, {KEY: successor, ("new",): other, ("connections",): object()}) == 3
    assert successor.portions == [b"1", large, b"2"]
    assert other.portions == []


async def test_a_portion_that_cannot_be_read() -> None:
    successor = Kept()
    assert await moved({KEY: Kept(b"1", b"bad", b"2")}, {KEY: successor}) == 2
    assert successor.portions == [b"1", b"2"]


async def test_a_key_that_is_no_text() -> None:
    """A frame whose key is not UTF-8 is skipped."""
    successor = Kept()
    fd = await pack({KEY: Kept(b"1")}, 1.0)
    os.write(fd, framed(b"\x92\xa1\xff\xc4\x00"))
    os.lseek(fd, 0, os.SEEK_SET)
    assert await unpack(fd, {KEY: successor}, 2.0, lambda: False) == 0


async def test_a_frame_that_is_cut_off() -> None:
    """A truncated frame ends the import. The previous worker may have been killed while it wrote."""
    fd = await pack({KEY: Kept(b"1", b"2")}, 1.0)
    os.ftruncate(fd, os.fstat(fd).st_size - 1)
    successor = Kept()
    assert await unpack(fd, {KEY: successor}, 2.0, lambda: False) == 1
    assert successor.portions == [b"1"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_the_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file would become too large, further portions are left out."""
    monkeypatch.setattr(cache_handover, "MAX_OCTETS", 1000)
    successor = Kept()
    await moved({KEY: Kept(*[bytes(300)] * 10)}, {KEY: successor})
    assert len(successor.portions) == 2


async def test_the_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_handover, "MAX_SECONDS", 3.0)
    monkeypatch.setattr(cache_handover, "perf_counter", itertools.count().__next__)
    successor = Kept()
    await moved({KEY: Kept(*[b"1"] * 10)}, {KEY: successor})
    assert len(successor.portions) == 3
