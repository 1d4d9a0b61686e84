"""The trial of a new program before an upgrade: it is run once, to see that it starts, and which hand-over it understands."""

from __future__ import annotations

import os
import signal
from typing import Final

from svcdns.process import isolated

PROGRAM: Final = "svcdns.cli.preflight"
PATIENCE: Final = 30.0
"""Seconds that it may take."""
_MOST: Final = 65536


class TrialError(Exception):
    """The new program cannot take over; the text says why."""


class Trial:
    """One run of the program that is installed now. It is a child, to be reaped by whoever reaps."""

    def __init__(self, now: float) -> None:
        """Starts it."""
        self._output, theirs = os.pipe()
        self._deadline = now + PATIENCE
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 1), (os.POSIX_SPAWN_DUP2, theirs, 2)]
        command = isolated.command(PROGRAM)
        self.pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsigmask=(), setsigdef=(signal.SIGPIPE,))
        os.close(theirs)
        os.set_blocking(self._output, False)

    def look(self, now: float) -> None:
        """Ends it where it takes too long."""
        if now > self._deadline:
            os.kill(self.pid, signal.SIGKILL)

    def result(self, code: int, wanted: str) -> str:
        """The new program's version, once it has ended with this exit code. Raises TrialError unless its hand-over is the wanted one."""
        try:
            lines = os.read(self._output, _MOST).decode(errors="replace").strip().splitlines()
        except BlockingIOError:
            lines = []
        finally:
            os.close(self._output)
        last = lines[-1].strip() if lines else "no output"
        if code:
            raise TrialError(f"it does not start (exit code {code}: {last})")
        form, _, version = last.partition(" ")
        if form != wanted:
            raise TrialError(f"its hand-over is {form}, this program's is {wanted}: a restart is needed")
        return version
