"""The preflight check before an upgrade in place: a trial run of the new program (`svcdns.cli.preflight`).

The check shows that the program starts, and which hand-over format it has.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from svcdns.process import isolated

PROGRAM: Final = "svcdns.cli.preflight"
TIMEOUT: Final = 30.0
"""Seconds after which the check is killed."""
_MAX_OUTPUT: Final = 65536


class PreflightError(Exception):
    """Raised if the new program cannot take over. The text of the error is the reason."""


class Preflight:
    """One run of the preflight check, in a child process. The supervisor reaps this process."""

    def __init__(self, now: float) -> None:
        """Starts the check. `now` is in seconds on CLOCK_MONOTONIC."""
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
        """Kills the check if it takes longer than TIMEOUT seconds."""
        if now > self._deadline:
            os.kill(self.pid, signal.SIGKILL)

    def result(self, code: int, wanted: str) -> str:
        """Returns the new program's version. Call it once, after the process has been reaped with exit code `code`.

        Raises PreflightError if the check failed, or if the new program has another hand-over format than `wanted`.
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
