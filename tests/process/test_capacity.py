"""The number of processors that may be used, and the number of workers for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from svcdns.process.capacity import BASE, MIB, WORKER, most_workers, processors
from svcdns.process.shared_memory import ENCRYPTED_SLOT


@pytest.mark.parametrize(
    ("own", "files", "wanted"),
    [
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, 8, id="no limit"),
        pytest.param("0::/\n", {"cpu.max": "250000 100000\n"}, 2, id="version 2, rounded down"),
        pytest.param("0::/\n", {"cpu.max": "10000 100000\n"}, 1, id="at least one"),
        pytest.param("0::/\n", {"cpu.max": "3200000 100000\n"}, 8, id="more than there are"),
        pytest.param("0::/\n", {}, 8, id="no such file"),
        pytest.param("0::/\n", {"cpu.max": "broken\n"}, 8, id="an unknown text"),
        pytest.param(
            "0::/a/b\n",
            {"cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n", "a/b/cpu.max": "500000 100000\n"},
            3,
            id="the lowest of the groups above",
        ),
        pytest.param(
            "2:cpu,cpuacct:/pod\n",
            {"cpu/pod/cpu.cfs_quota_us": "400000\n", "cpu/pod/cpu.cfs_period_us": "100000\n"},
            4,
            id="version 1",
        ),
        pytest.param(
            "2:cpu,cpuacct:/pod\n",
            {"cpu/pod/cpu.cfs_quota_us": "-1\n", "cpu/pod/cpu.cfs_period_us": "100000\n"},
            8,
            id="version 1 without a limit",
        ),
    ],
)
def test_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], wanted: int
) -> None:
    """The affinity has eight processors. The control group may permit fewer, but at least one is used."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    assert processors(tmp_path / "cgroup", tmp_path / "own") == wanted


@pytest.mark.parametrize(
    ("available", "memory", "wanted", "reason"),
    [
        pytest.param(2, None, 8, "4 for each processor, and there are 2", id="processors"),
        pytest.param(100, None, ENCRYPTED_SLOT, "63 is the most", id="slots"),
        pytest.param(2, BASE + 3 * WORKER, 3, "the memory limit of 120 MiB has no room for more", id="memory"),
        pytest.param(2, MIB, 1, "the memory limit of 1 MiB has no room for more", id="at least one"),
        pytest.param(2, 1 << 40, 8, "4 for each processor, and there are 2", id="enough memory"),
    ],
)
def test_most_workers(available: int, memory: int | None, wanted: int, reason: str) -> None:
    """The smallest bound applies, and the reason names it."""
    assert most_workers(available, memory) == (wanted, reason)
