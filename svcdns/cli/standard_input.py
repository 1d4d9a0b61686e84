"""Keeps the content of standard input in a file in memory, so that it can be read more than once."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

from svcdns.process.shared_memory import memory_file

STANDARD_INPUT: Final = 0
"""The descriptor of standard input."""


def keep() -> None:
    """Replaces standard input by a file in memory with the same content. Raises OSError."""
    import shutil  # here, because the supervisor would keep it

    fd = memory_file("svcdns-stdin")
    with os.fdopen(fd, "wb", closefd=False) as file, open(STANDARD_INPUT, "rb", closefd=False) as source:
        shutil.copyfileobj(source, file)
    os.dup2(fd, STANDARD_INPUT)
    os.close(fd)


def keep_manifests(paths: Sequence[str]) -> None:
    """Calls `keep` if standard input is one of the paths (`-`).

    Raises CannotRun if standard input is a terminal, is empty or cannot be read.
    """
    if "-" not in paths:
        return
    from svcdns.cli.errors import CannotRun  # here, because a start of the server does not need click

    if os.isatty(STANDARD_INPUT):
        raise CannotRun(
            "'-' reads manifests from standard input, which is a terminal; "
            "pipe them: 'kubectl kustomize overlays/prod | svcdns ...'"
        )
    try:
        if not stat.S_ISREG(os.fstat(STANDARD_INPUT).st_mode):
            keep()
        size = os.fstat(STANDARD_INPUT).st_size
    except OSError as failure:
        raise CannotRun(f"'-': standard input cannot be read: {failure.strerror}") from failure
    if not size:
        raise CannotRun(
            "'-': standard input is empty, so there are no manifests; does the command before the pipe work?"
        )
