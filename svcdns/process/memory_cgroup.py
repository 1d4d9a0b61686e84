"""The memory of this process's control group: how much it may take, and how much it cannot give back (cgroups(7), versions 1 and 2).

In a container `/sys/fs/cgroup` is usually the container's own group; elsewhere the group is found below it by `/proc/self/cgroup`, and
where it has no limit itself, the nearest group above it that has one counts. Everything is read anew each time: limits may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")
_BOUNDLESS: Final = 1 << 60
"""Version 1 says so many octets, or more, where there is no limit."""


@dataclass(frozen=True, slots=True)
class _Version:
    """The files of a version: limit, use, and in the statistics the page cache that the kernel takes first."""

    limit: str
    usage: str
    inactive: str


_ONE: Final = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_TWO: Final = _Version("memory.max", "memory.current", "inactive_file")


class Usage(NamedTuple):
    """Octets: the limit, and the working set, which is what is used less page cache that was not used lately, as the kubelet counts."""

    limit: int
    working_set: int


class MemoryGroup:
    """The control group of this process, and those above it."""

    def __init__(self, root: Path = ROOT, own: Path = OWN) -> None:
        """Where control groups are mounted, and where the process's own are named."""
        self._version, self._groups = _found(root, own)

    def limit(self) -> int | None:
        """The memory limit in octets, None where there is none or it cannot be read."""
        found = self._limited()
        return None if found is None else found[1]

    def usage(self) -> Usage | None:
        """What is used of the limit; None where there is no limit or something cannot be read."""
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
            if text.isdecimal() and int(text) < _BOUNDLESS:
                return group, int(text)
        return None


def _found(root: Path, own: Path) -> tuple[_Version, tuple[Path, ...]]:
    """The version that has the memory, and the groups from the process's own up to the mounted one, as far as they can be seen."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    paths = {name: path for _, names, path in (line for line in lines if len(line) == 3) for name in names.split(",")}
    version, base = (_ONE, root / "memory") if "memory" in paths or (root / "memory").is_dir() else (_TWO, root)
    path = Path(paths.get("memory" if version is _ONE else "", "/")).relative_to("/")
    group = base / path
    if ".." in path.parts or not group.is_dir():
        return version, (base,)
    return version, (group, *(above for above in group.parents if above.is_relative_to(base)))


def _field(text: str, name: str) -> int:
    """A number of `memory.stat`. Raises ValueError where it is not there."""
    for line in text.splitlines():
        field, _, value = line.partition(" ")
        if field == name:
            return int(value)
    raise ValueError(name)
