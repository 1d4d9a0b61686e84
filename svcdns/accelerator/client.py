"""The connection of a worker to `svcdns accelerate`, over which the worker gets the memory of the program.

Rules:

1. The process at the other end runs as uid 0 or as this worker's own user. The kernel says so (SO_PEERCRED, unix(7)).
2. Each descriptor is a BPF map. So nobody can truncate the memory while the worker writes it.
3. After a failure, the next attempt follows after RETRY seconds.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from svcdns.accelerator.layout import MAPS
from svcdns.accelerator.protocol import (
    MESSAGE_MAX,
    REPLACED,
    AcceleratorError,
    Greeting,
    decode_greeting,
    socket_address,
)
from svcdns.eventloop.clock import Clock

RETRY: Final = 5.0
"""The seconds between two attempts to connect."""
GREETING_TIMEOUT: Final = 5.0
"""The seconds in which the helper must send the maps."""
REPLACED_RETRY: Final = 60.0
"""The seconds after which a worker that was replaced tries again, as its successor may have failed.

A worker that ends because of the successor has ended by then.
"""
TAKEN_OVER: Final = "another worker has taken over"
"""The reason of the end when the worker has a successor, which is usual at an upgrade in place."""
_CLOCK_OFFSETS: Final = Path("/proc/self/timens_offsets")
_CREDENTIALS: Final = struct.Struct("=iII")
_MAP_LINK: Final = "anon_inode:bpf-map"


def is_bpf_map(descriptor: int) -> bool:
    """Returns True if a descriptor of this process is a BPF map."""
    return str(Path(f"/proc/self/fd/{descriptor}").readlink()) == _MAP_LINK


class Client:
    """Connects to the helper, and tells its owner about the connection."""

    def __init__(
        self,
        address: str,
        connected: Callable[[Greeting, list[int]], None],
        lost: Callable[[str], None],
        clock: Clock,
        is_map: Callable[[int], bool] = is_bpf_map,
    ) -> None:
        """`address` is the path of the helper's socket, or an abstract name after `@`.

        `connected` gets the greeting and the descriptors of the maps, which this object closes afterwards. `connected`
        may raise OSError, ValueError or AcceleratorError. `lost` gets the reason of a failed attempt, or of the end of
        the connection. `is_map` checks a descriptor.
        """
        self._address, self._connected, self._lost, self._clock = address, connected, lost, clock
        self._is_map = is_map
        self._sock: socket.socket | None = None
        self._is_greeted = False
        self._deadline = 0.0
        """The time of the next attempt. While the helper prepares the maps: the end of this attempt."""

    def attempt(self) -> None:
        """Connects if there is no connection and the time of the next attempt has come. Call it often."""
        if self._is_greeted or self._clock() < self._deadline:
            return
        if self._sock is not None:
            self._fail("the helper did not send the maps in time")
            return
        self._deadline = self._clock() + GREETING_TIMEOUT
        try:
            sock = self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.setblocking(False)
            sock.connect(socket_address(self._address))
            check_peer(sock)
            check_clock()
        except OSError as error:
            self._fail(f"no helper at {self._address}: {error.strerror}")
            return
        except AcceleratorError as error:
            self._fail(str(error))
            return
        asyncio.get_running_loop().add_reader(sock, self._receive)

    def close(self) -> None:
        """Closes the connection, which ends the ownership of the program. Does not call `lost`."""
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
        self._sock, self._is_greeted = None, False

    def _fail(self, reason: str, *, was_replaced: bool = False) -> None:
        self.close()
        self._deadline = self._clock() + (REPLACED_RETRY if was_replaced else RETRY)
        self._lost(reason)

    def _receive(self) -> None:
        assert self._sock is not None
        descriptors: list[int] = []
        try:
            message, descriptors, _, _ = socket.recv_fds(
                self._sock, MESSAGE_MAX, 2 * len(MAPS), socket.MSG_CMSG_CLOEXEC
            )
            if message == REPLACED:
                self._fail(TAKEN_OVER, was_replaced=True)
            elif not message:
                self._fail("the helper has closed the connection")
            elif not self._is_greeted:
                self._greet(decode_greeting(message), descriptors)
        except BlockingIOError:
            pass
        except (OSError, ValueError, AcceleratorError) as error:
            self._fail(_text(error))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _greet(self, greeting: Greeting, descriptors: list[int]) -> None:
        if len(descriptors) != len(MAPS) or not all(map(self._is_map, descriptors)):
            raise AcceleratorError("the helper did not send a descriptor for each map")
        self._connected(greeting, descriptors)
        self._is_greeted = True


def check_clock(offsets: Path = _CLOCK_OFFSETS) -> None:
    """Raises AcceleratorError if CLOCK_MONOTONIC differs from the clock of programs in the kernel.

    This is the case in a time namespace with an offset (time_namespaces(7)). `offsets` is the file with the offsets.
    """
    lines = offsets.read_text().splitlines() if offsets.exists() else []
    if any(name == "monotonic" and (int(seconds) or int(ns)) for name, seconds, ns in map(str.split, lines)):
        raise AcceleratorError("this process has a time namespace with another clock")


def check_peer(sock: socket.socket) -> None:
    """Raises AcceleratorError if a process of another user, and not of root, listens at the other end."""
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid not in (0, os.geteuid()):
        raise AcceleratorError(f"the helper runs as uid {uid}, and not as root")


def _text(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
