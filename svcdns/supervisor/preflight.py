"""The preflight check before an upgrade in place: the program that is installed now is run once.

It shows that the program starts, and which hand-over format it understands.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from svcdns.process import isolated

PROGRAM: Final = "svcdns.cli.preflight"
TIMEOUT: Final = 30.0
"""Seconds that the check may take."""
_MAX_OUTPUT: Final = 65536


class PreflightError(Exception):
    """The new program cannot take over; the text says why."""


class Preflight:
    """One run of the check. It is a child process; the supervisor reaps it with the others."""

    def __init__(self, now: float) -> None:
        """Starts it."""
        self._output, theirs = os.pipe()
        self._deadline = now + TIMEOUT
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 1), (os.POSIX_SPAWN_DUP2, theirs, 2)]
        command = isolated.command(PROGRAM)
        self.pid = os.posix_spawn(
            command[0], command, os.environ, file_actions=actions, setsigmask=(), setsigdef=(signal.SIGPIPE,)
        )
        os.close(theirs)
        os.set_blocking(self._output, False)

    def check_timeout(self, now: float) -> None:
        """Kills it once its time is over."""
        if now > self._deadline:
            os.kill(self.pid, signal.SIGKILL)

    def result(self, code: int, wanted: str) -> str:
        """The new program's version. To be called once, when the process has been reaped with this exit code.

        Raises PreflightError where it failed, or understands another hand-over format than `wanted`.
        """
        try:
            lines = os.read(self._output, _MAX_OUTPUT).decode(errors="replace").strip().splitlines()
        except BlockingIOError:
            lines = []
        finally:
            os.close(self._output)
        last = lines[-1].strip() if lines else "no output"
        if code:
            raise PreflightError(f"it does not start (exit code {code}: {last})")
        found, _, version = last.partition(" ")
        if found != wanted:
            raise PreflightError(f"its hand-over format is {found}, this program's is {wanted}: a restart is needed")
        return version
