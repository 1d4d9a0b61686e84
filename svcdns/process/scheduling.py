"""Scheduling of a worker, by the kernel and by the interpreter, so that queries do not wait for other work.

Control shares processors with workers, and at times works for long, on a list of a large cluster for example. By
default Linux lets it finish a slice of some milliseconds. A worker with a short slice of its own preempts it at once
(sched_setattr(2), Linux 6.12 and newer; older kernels accept the call and change nothing).

In a worker the thread that answers gives up the interpreter in each system call on a socket. The thread that writes the
log may then keep it for 5 ms by default (sys.setswitchinterval).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Final

SLICE_NANOSECONDS: Final = 500_000
"""Shorter than the kernel's default slice of 0.7 to 3 ms."""
SWITCH_INTERVAL: Final = 0.0001
"""Seconds after which a thread that runs has to let another one run."""
_SYSTEM_CALL: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""The number of sched_setattr(2) by machine; the C library has no function for it."""
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")


def shorten_switch_interval() -> None:
    """Lets the threads of this process take the interpreter from one another sooner."""
    sys.setswitchinterval(SWITCH_INTERVAL)


def request_short_slices() -> bool:
    """Asks the kernel to run this process soon after it wakes up; whether the kernel has accepted that."""
    number = _SYSTEM_CALL.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    attributes = _ATTRIBUTES.pack(
        _ATTRIBUTES.size, os.SCHED_OTHER, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, SLICE_NANOSECONDS, 0, 0
    )
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
