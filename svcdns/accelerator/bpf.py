"""Calls bpf(2): creates maps, loads a program, and attaches it to an interface (tcx ingress).

The calls need the capabilities BPF and NET_ADMIN. Each function returns a descriptor, which the caller closes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from svcdns.accelerator.elf import Program
from svcdns.accelerator.protocol import AcceleratorError

NUMBERS: Final = {"x86_64": 321, "aarch64": 280, "loongarch64": 280, "ppc64le": 361, "riscv64": 280}
"""The number of the system call bpf(2) on each machine."""
TCX_INGRESS: Final = 46
_ATTRIBUTES: Final = 144
"""Octets of the argument. The kernel ignores zeros after the fields that it knows."""
_ARRAY: Final = 2
_MMAPABLE: Final = 1 << 10
_SCHED_CLS: Final = 3
_LICENSE: Final = b"Apache-2.0\0"
_LOG_SIZE: Final = 1 << 16


class Command(IntEnum):
    """The commands of bpf(2) that svcdns uses."""

    MAP_CREATE = 0
    PROG_LOAD = 5
    OBJ_GET_INFO_BY_FD = 15
    LINK_CREATE = 28
    LINK_UPDATE = 29


class UnsupportedMachine(AcceleratorError):
    """Raised if the accelerator does not support the processor architecture."""


class Rejected(AcceleratorError):
    """Raised if the kernel does not accept the program."""


def check_machine() -> None:
    """Raises UnsupportedMachine if the system call number of bpf(2) is unknown, or if the machine is big endian."""
    if sys.byteorder != "little":
        raise UnsupportedMachine("the accelerator needs a little-endian machine")
    if sys.platform != "linux" or platform.machine() not in NUMBERS:
        raise UnsupportedMachine(f"the accelerator does not know the system call bpf(2) of {platform.machine()}")


def call(command: Command, attributes: bytes) -> int:
    """Calls bpf(2) and returns its result. Raises OSError."""
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(NUMBERS[platform.machine()], command, buffer, _ATTRIBUTES)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def create_map(name: str, size: int, elements: int) -> int:
    """Creates an array that processes can map into their memory."""
    fields = struct.pack("<7I16s", _ARRAY, 4, size, elements, _MMAPABLE, 0, 0, f"svcdns_{name}".encode())
    return call(Command.MAP_CREATE, fields)


def load_program(program: Program, maps: Mapping[str, int]) -> int:
    """Loads a program whose maps are `maps`. Raises Rejected with the reason in the verifier's log, or OSError."""
    code = program.linked(maps)
    try:
        return _load(code, None)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise
    log = ctypes.create_string_buffer(_LOG_SIZE)
    try:
        return _load(code, log)
    except OSError as error:
        lines = log.value.decode(errors="replace").strip().splitlines()
        reason = next((line for line in reversed(lines) if not line.startswith("processed")), "")
        if not reason:
            raise
        raise Rejected(f"the kernel rejects the program: {reason}") from error


def _load(code: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(_LICENSE)
    where, size = (ctypes.addressof(log), len(log)) if log else (0, 0)
    fields = struct.pack(
        "<IIQQIIQII16sII",
        *(_SCHED_CLS, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(license_text)),
        *(1 if log else 0, size, where, 0, 0, b"svcdns_answers", 0, TCX_INGRESS),
    )
    return call(Command.PROG_LOAD, fields)


def attach(program: int, ifindex: int) -> int:
    """Attaches a program to an interface until the returned link is closed."""
    return call(Command.LINK_CREATE, struct.pack("<4I", program, ifindex, TCX_INGRESS, 0))


def replace(link: int, program: int) -> None:
    """Replaces the program of a link. Each packet is handled by the earlier program or by the new program."""
    call(Command.LINK_UPDATE, struct.pack("<4I", link, program, 0, 0))
