"""Sets how the kernel and the interpreter schedule a worker, so that queries do not wait for other work.

A worker that requests short time slices can preempt the control process (sched_setattr(2), Linux 6.12 and later). A
short switch interval limits how long another thread of the worker keeps the interpreter lock (sys.setswitchinterval).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Final

SLICE_NANOSECONDS: Final = 500_000
"""The time slice of a worker. The kernel's default is 0.7 to 3 ms."""
ENCRYPTED_NICE: Final = 10
"""The nice value of the worker for encrypted transports. With this value, the worker gets about a tenth of a processor
that other processes also use.
"""
USUAL_SLICE: Final = 0
"""Stands for the kernel's default in `request_slices`."""
SWITCH_INTERVAL: Final = 0.0001
"""Seconds after which a running thread has to release the interpreter lock if another thread wants it."""
_SYSTEM_CALL: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""The number of the system call sched_setattr(2) by machine; the C library has no function for it."""
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")


def shorten_switch_interval() -> None:
    """Shortens the time for which a thread of this process may keep the interpreter lock."""
    sys.setswitchinterval(SWITCH_INTERVAL)


def request_short_slices() -> bool:
    """Requests short time slices from the kernel, so that this process runs soon after it wakes up.

    Returns True if the kernel accepts the request.
    """
    return request_slices(SLICE_NANOSECONDS)


def give_way() -> None:
    """Lowers the priority of the worker for encrypted transports, so that queries over UDP interrupt its work."""
    os.nice(ENCRYPTED_NICE)


def request_slices(nanoseconds: int) -> bool:
    """Requests time slices of a length from the kernel. Returns True if the kernel accepts the request."""
    number = _SYSTEM_CALL.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    attributes = _ATTRIBUTES.pack(
        _ATTRIBUTES.size, os.SCHED_OTHER, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, nanoseconds, 0, 0
    )
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
