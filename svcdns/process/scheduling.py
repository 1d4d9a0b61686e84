"""Sets how the kernel and the interpreter schedule a worker, so that queries do not wait for other work.

The control process shares processors with workers, and sometimes works for long, for example on a list of a large
cluster. By default Linux lets control use up a time slice of some milliseconds first. A worker that requests a short
slice preempts it at once (sched_setattr(2), Linux 6.12 and later; older kernels accept the call and change nothing).

In a worker, the thread that answers queries releases the interpreter lock in each system call on a socket. By default
the thread that writes the log may then keep the lock for 5 ms (sys.setswitchinterval).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Final

SLICE_NANOSECONDS: Final = 500_000
"""The time slice to request. The kernel's default is 0.7 to 3 ms."""
SWITCH_INTERVAL: Final = 0.0001
"""Seconds after which a running thread has to release the interpreter lock if another thread wants it."""
_SYSTEM_CALL: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""The number of the system call sched_setattr(2) by machine; the C library has no function for it."""
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")


def shorten_switch_interval() -> None:
    """Shortens the time for which a thread of this process may keep the interpreter lock."""
    sys.setswitchinterval(SWITCH_INTERVAL)


def request_short_slices() -> bool:
    """Asks the kernel to run this process soon after it wakes up. Returns True if the kernel accepts the request."""
    number = _SYSTEM_CALL.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    attributes = _ATTRIBUTES.pack(
        _ATTRIBUTES.size, os.SCHED_OTHER, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, SLICE_NANOSECONDS, 0, 0
    )
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
