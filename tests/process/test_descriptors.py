"""The number of descriptors that a worker may have open."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from svcdns.process.descriptors import TABLE_SIZE, WANTED_LIMIT, grow_descriptor_table, raise_descriptor_limit


def _number_of_open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        pytest.param(1024, 524_288, [(WANTED_LIMIT, 524_288)], id="raised"),
        pytest.param(1024, 4096, [(4096, 4096)], id="as far as it goes"),
        pytest.param(1024, resource.RLIM_INFINITY, [(WANTED_LIMIT, resource.RLIM_INFINITY)], id="no hard limit"),
        pytest.param(1 << 20, 1 << 20, [], id="enough"),
        pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, [], id="no limit"),
    ],
)
def test_the_soft_limit_is_raised(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: list[tuple[int, int]]
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    raise_descriptor_limit()
    assert made == raised


@pytest.mark.usefixtures("_only_own_descriptors")
def test_the_descriptor_table_is_grown() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    status = Path("/proc/self/status")
    before = _number_of_open_descriptors()
    grow_descriptor_table()
    assert _number_of_open_descriptors() == before
    if status.exists():
        size = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("FDSize:"))
        assert size >= min(TABLE_SIZE, limits[0])


@pytest.mark.usefixtures("_only_own_descriptors")
def test_the_descriptor_table_is_no_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (3, 3))
    before = _number_of_open_descriptors()
    grow_descriptor_table()
    assert _number_of_open_descriptors() == before
