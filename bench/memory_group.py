"""Runs the measured server in a memory control group (version 1 or 2), if the machine allows one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path("/sys/fs/cgroup")
_MAX, _PEAK, _FAILED = 0, 1, 2
_FILES = {
    1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"),
    2: ("memory.max", "memory.peak", "memory.events"),
}


class MemoryGroup:
    """A new memory control group with a limit in octets. As a context manager, removes the group at the end.

    `path` is None if the machine does not allow a control group.
    """

    def __init__(self, limit: int) -> None:
        self.path: Path | None = None
        self._version = 1 if (ROOT / "memory").is_dir() else 2
        path = (ROOT / "memory" if self._version == 1 else ROOT) / f"svcdns-bench-{os.getpid()}"
        with suppress(OSError):
            path.mkdir()
            self.path = path
            self.set_limit(limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            with suppress(OSError):
                self.path.rmdir()

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words to put before a command, so that the command runs in the group. Empty without a group."""
        if self.path is None:
            return ()
        return ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs"))

    def set_limit(self, limit: int) -> None:
        """Changes the limit of the group to `limit` octets."""
        self._file(_MAX).write_text(str(limit))

    def add(self, pid: int) -> None:
        """Moves a process into the group. Processes that it starts later are in the group, too."""
        assert self.path is not None
        (self.path / "cgroup.procs").write_text(str(pid))

    @property
    def peak(self) -> float | None:
        """The peak memory of the group so far, page cache included, in MiB. None without a group."""
        return None if self.path is None else int(self._file(_PEAK).read_text()) / 2**20

    @property
    def limit_hits(self) -> int | None:
        """The number of times that the memory of the group reached the limit. None without a group."""
        if self.path is None:
            return None
        words = self._file(_FAILED).read_text().split()
        return int(words[0] if self._version == 1 else words[words.index("max") + 1])

    def _file(self, number: int) -> Path:
        assert self.path is not None
        return self.path / _FILES[self._version][number]
