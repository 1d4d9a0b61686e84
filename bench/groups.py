"""A memory control group for what is measured, version 1 or 2, where this machine lets one be made."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path("/sys/fs/cgroup")
_MAX, _MOST, _FAILED = 0, 1, 2
_FILES = {
    1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"),
    2: ("memory.max", "memory.peak", "memory.events"),
}


class MemoryGroup:
    """A group of its own with a limit, in octets. A context manager; `path` is None where none can be made."""

    def __init__(self, limit: int) -> None:
        self.path: Path | None = None
        self._version = 1 if (ROOT / "memory").is_dir() else 2
        path = (ROOT / "memory" if self._version == 1 else ROOT) / f"svcdns-bench-{os.getpid()}"
        with suppress(OSError):
            path.mkdir()
            self.path = path
            self.allow(limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            with suppress(OSError):
                self.path.rmdir()

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command in the group, put before it."""
        if self.path is None:
            return ()
        return ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs"))

    def allow(self, limit: int) -> None:
        """Another limit, in octets."""
        self._file(_MAX).write_text(str(limit))

    def take(self, pid: int) -> None:
        """Has a process in the group from now on, with the children that it will have."""
        assert self.path is not None
        (self.path / "cgroup.procs").write_text(str(pid))

    @property
    def most(self) -> float | None:
        """The most that it used so far, page cache included, MiB."""
        return None if self.path is None else int(self._file(_MOST).read_text()) / 2**20

    @property
    def failures(self) -> int | None:
        """How often the limit was met."""
        if self.path is None:
            return None
        words = self._file(_FAILED).read_text().split()
        return int(words[0] if self._version == 1 else words[words.index("max") + 1])

    def _file(self, number: int) -> Path:
        assert self.path is not None
        return self.path / _FILES[self._version][number]
