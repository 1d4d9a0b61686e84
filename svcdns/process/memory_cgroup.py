"""Reads the memory limit and the working set of this process's control group (cgroups(7), versions 1 and 2).

If the group has no limit, the nearest group above it with a limit is used. Each call reads the files again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")
_UNLIMITED: Final = 1 << 60
"""In version 1 a limit of so many octets, or more, means that there is no limit."""


@dataclass(frozen=True, slots=True)
class _Version:
    """The names of files and fields in one cgroup version.

    `limit` and `usage` are file names. `inactive` is the field of `memory.stat` with the inactive page cache.
    """

    limit: str
    usage: str
    inactive: str


_ONE: Final = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_TWO: Final = _Version("memory.max", "memory.current", "inactive_file")


class Usage(NamedTuple):
    """The memory limit and the working set, both in octets.

    The working set is the usage without the inactive page cache, as the kubelet computes it.
    """

    limit: int
    working_set: int


class MemoryGroup:
    """The control group (cgroup) of this process, with the groups that contain it."""

    def __init__(self, root: Path = ROOT, own: Path = OWN) -> None:
        """`root` is where control groups are mounted. `own` is the file that names this process's groups."""
        version, self._groups = groups(root, own, "memory")
        self._version = _ONE if version == 1 else _TWO

    def limit(self) -> int | None:
        """Returns the memory limit in octets, or None if there is none or it cannot be read."""
        found = self._limited()
        return None if found is None else found[1]

    def usage(self) -> Usage | None:
        """Returns limit and working set, or None if there is no limit or a file cannot be read."""
        found = self._limited()
        if found is None:
            return None
        group, limit = found
        try:
            used = int((group / self._version.usage).read_text())
            inactive = _field((group / "memory.stat").read_text(), self._version.inactive)
        except (OSError, ValueError):
            return None
        return Usage(limit, max(0, used - inactive))

    def _limited(self) -> tuple[Path, int] | None:
        for group in self._groups:
            try:
                text = (group / self._version.limit).read_text().strip()
            except OSError:
                continue
            if text.isdecimal() and int(text) < _UNLIMITED:
                return group, int(text)
        return None


def groups(root: Path, own: Path, controller: str) -> tuple[int, tuple[Path, ...]]:
    """Returns the cgroup version that has `controller`, and the cgroups from this process's own up to the mount point.

    `controller` is `memory` or `cpu`. Groups that this process cannot see are left out.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    paths = {name: path for _, names, path in (line for line in lines if len(line) == 3) for name in names.split(",")}
    one = controller in paths or (root / controller).is_dir()
    version, base = (1, root / controller) if one else (2, root)
    path = Path(paths.get(controller if one else "", "/")).relative_to("/")
    group = base / path
    if ".." in path.parts or not group.is_dir():
        return version, (base,)
    return version, (group, *(above for above in group.parents if above.is_relative_to(base)))


def _field(text: str, name: str) -> int:
    """Returns the number in a field of `memory.stat`. Raises ValueError if the field is missing."""
    for line in text.splitlines():
        field, _, value = line.partition(" ")
        if field == name:
            return int(value)
    raise ValueError(name)
