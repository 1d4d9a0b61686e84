"""Runs a measured server in a control group (version 1 or 2), if the machine permits it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds of a period of the CPU quota, as the kubelet sets it."""


class ControlGroup:
    """A new control group. A context manager, which removes the group at the end.

    `path` is None if the machine does not permit a control group.
    """

    def __init__(self, controller: str) -> None:
        """`controller` is `memory` or `cpu`."""
        self.path: Path | None = None
        self.version = 1 if (ROOT / controller).is_dir() else 2
        path = (ROOT / controller if self.version == 1 else ROOT) / f"svcdns-bench-{os.getpid()}"
        with suppress(OSError):
            path.mkdir()
            self.path = path

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

    def add(self, pid: int) -> None:
        """Moves a process into the group. Processes that it starts later are in the group, too."""
        assert self.path is not None
        (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self, pid: int) -> None:
        """Moves a process to the root of the hierarchy."""
        assert self.path is not None
        (self.path.parent / "cgroup.procs").write_text(str(pid))


class CpuGroup(ControlGroup):
    """A control group whose processes may use `share` of the time of one CPU, in periods of 0.1 s."""

    def __init__(self, share: float) -> None:
        super().__init__("cpu")
        if self.path is None:
            return
        quota = int(share * PERIOD)
        try:
            if self.version == 1:
                (self.path / "cpu.cfs_period_us").write_text(str(PERIOD))
                (self.path / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (self.path / "cpu.max").write_text(f"{quota} {PERIOD}")
        except OSError:
            self.path.rmdir()
            self.path = None
