"""Reading the memory use and the memory limit of a control group from the kernel's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.process.memory_cgroup import MemoryGroup, Usage

BOUNDLESS = "9223372036854771712\n"
ONE = "4:memory:/kubepods/pod1/c1\n2:cpu,cpuacct:/kubepods/pod1/c1\n0::/\n"
TWO = "0::/system.slice/svcdns.service\n"
INSIDE = "0::/\n"


def group(limit: str, used: int = 0, inactive: int = 0, *, version: int = 2) -> dict[str, str]:
    """Returns the files of one control group."""
    if version == 1:
        stat = f"cache 5\ninactive_file 1\ntotal_inactive_file {inactive}\n"
        return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": f"{used}\n", "memory.stat": stat}
    return {"memory.max": limit, "memory.current": f"{used}\n", "memory.stat": f"anon 5\ninactive_file {inactive}\n"}


def memory_group(folder: Path, own: str | None, groups: dict[str, dict[str, str]]) -> MemoryGroup:
    """Writes the files of control groups, and returns the group. `own` is the content of `/proc/self/cgroup`."""
    root = folder / "cgroup"
    root.mkdir()
    for place, files in groups.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / place / name).write_text(text)
    if own is not None:
        (folder / "own").write_text(own)
    return MemoryGroup(root, folder / "own")


@pytest.mark.parametrize(
    ("own", "groups", "usage"),
    [
        pytest.param(INSIDE, {"": group("1000\n", 700, 200)}, Usage(1000, 500), id="version 2, in a container"),
        pytest.param(INSIDE, {"": group("max\n", 700, 200)}, None, id="version 2 without a limit"),
        pytest.param(
            TWO, {"system.slice/svcdns.service": group("1000\n", 700, 200)}, Usage(1000, 500), id="version 2, a service"
        ),
        pytest.param(
            TWO,
            {"system.slice/svcdns.service": group("max\n", 1, 0), "system.slice": group("2000\n", 900, 100)},
            Usage(2000, 800),
            id="the nearest limit above",
        ),
        pytest.param(
            ONE, {"memory": group("1000\n", 700, 200, version=1)}, Usage(1000, 500), id="version 1, in a container"
        ),
        pytest.param(
            ONE,
            {
                "memory/kubepods/pod1/c1": group("1000\n", 700, 200, version=1),
                "memory": group(BOUNDLESS, 9000, version=1),
            },
            Usage(1000, 500),
            id="version 1, from outside",
        ),
        pytest.param(ONE, {"memory": group(BOUNDLESS, 700, 200, version=1)}, None, id="version 1 without a limit"),
        pytest.param(None, {"": group("1000\n", 700, 200)}, Usage(1000, 500), id="no /proc"),
        pytest.param(
            "0::/../../elsewhere\n", {"": group("1000\n", 700, 200)}, Usage(1000, 500), id="a group out of sight"
        ),
        pytest.param("nonsense\n", {"": group("1000\n", 700, 200)}, Usage(1000, 500), id="lines of another form"),
        pytest.param(
            INSIDE, {"": group("1000\n", 100, 200)}, Usage(1000, 0), id="counts that were read at two moments"
        ),
        pytest.param(INSIDE, {"": {"memory.max": "1000\n"}}, None, id="no use to be read"),
        pytest.param(INSIDE, {"": {**group("1000\n", 700), "memory.stat": "anon 1\n"}}, None, id="no such field"),
        pytest.param(INSIDE, {}, None, id="no control groups"),
    ],
)
def test_usage_and_limit(
    own: str | None, groups: dict[str, dict[str, str]], usage: Usage | None, tmp_path: Path
) -> None:
    """The limit is that of the nearest group above. Inactive page cache does not count as used."""
    assert memory_group(tmp_path, own, groups).usage() == usage


def test_the_limit_without_the_usage(tmp_path: Path) -> None:
    """If the memory use cannot be read, the limit is still known. It is read again each time."""
    found = memory_group(tmp_path, INSIDE, {"": {"memory.max": "1000\n"}})
    assert found.limit() == 1000
    (tmp_path / "cgroup" / "memory.max").write_text("2000\n")
    assert found.limit() == 2000
    (tmp_path / "cgroup" / "memory.max").write_text("max\n")
    assert found.limit() is None
