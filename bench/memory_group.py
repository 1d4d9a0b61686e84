"""Runs the measured server in a memory control group (version 1 or 2), if the machine permits it."""

from __future__ import annotations

from pathlib import Path

from bench.control_group import ControlGroup

_MAX, _PEAK, _FAILED = 0, 1, 2
_FILES = {
    1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"),
    2: ("memory.max", "memory.peak", "memory.events"),
}


class MemoryGroup(ControlGroup):
    """A control group with a memory limit in octets."""

    def __init__(self, limit: int) -> None:
        super().__init__("memory")
        if self.path is None:
            return
        try:
            self.set_limit(limit)
        except OSError:
            self.path.rmdir()
            self.path = None

    def set_limit(self, limit: int) -> None:
        """Changes the limit of the group to `limit` octets."""
        self._file(_MAX).write_text(str(limit))

    @property
    def peak(self) -> float | None:
        """Returns the peak memory of the group in MiB, with the page cache, or None without a group."""
        return None if self.path is None else int(self._file(_PEAK).read_text()) / 2**20

    @property
    def limit_hits(self) -> int | None:
        """Returns how often the memory of the group reached the limit, or None without a group."""
        if self.path is None:
            return None
        words = self._file(_FAILED).read_text().split()
        return int(words[0] if self.version == 1 else words[words.index("max") + 1])

    def _file(self, number: int) -> Path:
        assert self.path is not None
        return self.path / _FILES[self.version][number]
