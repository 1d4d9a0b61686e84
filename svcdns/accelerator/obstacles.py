"""Finds the reason why the kernel refuses a call of bpf(2), and describes it in one line."""

from __future__ import annotations

import errno
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CAPABILITIES: Final = {"BPF": 39, "NET_ADMIN": 12}
"""The capabilities that the accelerator needs, with their numbers (linux/capability.h)."""
_SYS_ADMIN: Final = 21
_OLDEST: Final = (6, 6)
"""The first version of Linux with tcx."""
_WHOLE_MAP: Final = ["0", "0", "4294967295"]


@dataclass(frozen=True, slots=True)
class Rights:
    """What a process may do."""

    effective: int
    """The effective capabilities, one bit each."""
    seccomp: bool
    """True if a seccomp filter is active."""
    user_namespace: bool
    """True if the process runs in a user namespace other than the node's."""

    def missing(self) -> list[str]:
        """Returns the names of needed capabilities that the process lacks. SYS_ADMIN includes them."""
        if self.effective >> _SYS_ADMIN & 1:
            return []
        return [name for name, number in CAPABILITIES.items() if not self.effective >> number & 1]


def read_rights(process: Path = Path("/proc/self")) -> Rights:
    """Reads the rights of a process from its folder in /proc (proc(5))."""
    status = dict(re.findall(r"^(\w+):\s*(\S+)", (process / "status").read_text(), re.MULTILINE))
    return Rights(
        effective=int(status["CapEff"], 16),
        seccomp=status.get("Seccomp", "0") != "0",
        user_namespace=(process / "uid_map").read_text().split() != _WHOLE_MAP,
    )


def explain(error: OSError, rights: Rights, release: str = platform.release()) -> str:
    """Returns the cause of an error of bpf(2), or of a file. `release` is the version of the kernel."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in {errno.EPERM, errno.EACCES}:
        return _explain_refusal(rights)
    if error.errno == errno.EINVAL and (text := too_old(release)):
        return text
    if error.errno == errno.ENOMEM:
        return "there is no memory for the shared replies: is the memory limit of the container too low?"
    if error.errno == errno.ENOSYS:
        return "there is no system call bpf(2)" + (": does the seccomp profile forbid it?" if rights.seccomp else "")
    return f"bpf(2): {error.strerror}"


def too_old(release: str = platform.release()) -> str:
    """Returns a text if a kernel with this version has no tcx, and an empty text otherwise."""
    if _version(release) >= _OLDEST:
        return ""
    return f"Linux {release} is too old: the accelerator needs version {_OLDEST[0]}.{_OLDEST[1]} or newer"


def explain_rejection(error: Exception, release: str = platform.release()) -> str:
    """Returns the cause of an error of the verifier, which may not know what a program for newer kernels does."""
    text = too_old(release)
    return f"{text} ({error})" if text else str(error)


def _explain_refusal(rights: Rights) -> str:
    if rights.user_namespace:
        return "the kernel refuses bpf(2) in a user namespace: the Pod needs hostUsers: true"
    if missing := rights.missing():
        return f"no permission for bpf(2), missing capabilities: {', '.join(missing)}"
    if rights.seccomp:
        return "no permission for bpf(2) despite the capabilities: does the seccomp profile forbid it?"
    return "no permission for bpf(2) despite the capabilities: does a security module or kernel lockdown forbid it?"


def _version(release: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return tuple(map(int, found.groups())) if found else _OLDEST
