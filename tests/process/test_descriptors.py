"""How many descriptors a worker may have open."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from svcdns.process.descriptors import AT_ONCE, DESCRIPTORS, allow_descriptors, make_room_for_descriptors


def _open() -> int:
    """How many are open now."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        pytest.param(1024, 524_288, [(DESCRIPTORS, 524_288)], id="raised"),
        pytest.param(1024, 4096, [(4096, 4096)], id="as far as it goes"),
        pytest.param(1024, resource.RLIM_INFINITY, [(DESCRIPTORS, resource.RLIM_INFINITY)], id="no hard limit"),
        pytest.param(1 << 20, 1 << 20, [], id="enough"),
        pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, [], id="no limit"),
    ],
)
def test_descriptors(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: list[tuple[int, int]]) -> None:
    """The soft limit alone is changed, and only upwards."""
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    allow_descriptors()
    assert made == raised


def test_there_is_room_from_the_start() -> None:
    """The kernel's table is as large as it has to be; nothing stays open, and what was open does."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    status = Path("/proc/self/status")
    before = _open()
    make_room_for_descriptors()
    assert _open() == before
    if status.exists():
        size = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("FDSize:"))
        assert size >= min(AT_ONCE, limits[0])


def test_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the limit goes."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (3, 3))
    before = _open()
    make_room_for_descriptors()
    assert _open() == before
