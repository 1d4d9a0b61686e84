"""Ends a child process together with the supervisor, and makes it ignore the signals of a terminal.

On Linux, the child sets PR_SET_PDEATHSIG (prctl(2)) itself, because the kernel clears this setting when a file with
capabilities is executed. On other systems, the child ends when its channel to the supervisor ends.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PARENT: Final = "SVCDNS_PARENT"
_IGNORED: Final = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTSTP")


def die_with_parent() -> None:
    """Ignores the signals that the supervisor handles, and makes this process end with the supervisor.

    Exits if the supervisor has ended already.
    """
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = os.environ.get(PARENT)
    if parent is not None and os.getppid() != int(parent):
        sys.exit(0)
