"""What ties a child process to its supervisor besides the channel: signals that it leaves to it, and death with it.

Linux ends the child when its parent dies (prctl(2), PR_SET_PDEATHSIG); exec of a file with capabilities clears that, so it is set by
the child itself, which then checks that the parent is still there. Elsewhere the channel's end of file does it alone.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PARENT: Final = "SVCDNS_PARENT"
_LEFT_TO_PARENT: Final = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTSTP")


def follow_parent() -> None:
    """Ignores the terminal's signals, and dies with the parent. Exits at once where the parent is gone already."""
    for name in _LEFT_TO_PARENT:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = os.environ.get(PARENT)
    if parent is not None and os.getppid() != int(parent):
        sys.exit(0)
