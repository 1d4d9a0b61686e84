"""A child process dies with its supervisor, and leaves the signals of a terminal to it.

Linux kills the child when its parent dies (prctl(2), PR_SET_PDEATHSIG). The execution of a file with capabilities
clears that setting, so the child makes it itself, and then checks that the parent still exists. On other systems the
end of the channel alone ends the child.
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
    """Ignores the signals that the supervisor handles, and has this process die with it.

    Exits at once if the supervisor is gone already.
    """
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = os.environ.get(PARENT)
    if parent is not None and os.getppid() != int(parent):
        sys.exit(0)
