"""The connection of a worker to `svcdns accelerate`, over which the worker gets the memory of the program.

Rules:

1. The process at the other end runs as uid 0 or as this worker's own user. The worker checks the uid that the kernel
   reports (SO_PEERCRED, unix(7)).
2. Each received descriptor must be a BPF map, because no process can truncate a BPF map while the worker writes it.
3. After a failed connection, the worker tries again after RETRY seconds.
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
    CHANGED,
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
LONG_RETRY: Final = 60.0
"""The seconds until the next attempt of a worker that was replaced, or that had an unexpected error.

A replaced worker usually ends within this time. A later attempt helps if the successor has failed.
"""
TAKEN_OVER: Final = "another worker has taken over"
"""The reason that `lost` gets when another worker has become the owner, as at each upgrade in place."""
INTERFACE_CHANGED: Final = "the network interface or its addresses have changed"
"""The reason that `lost` gets when the helper has detached the program, because it was made for other addresses."""
_CLOCK_OFFSETS: Final = Path("/proc/self/timens_offsets")
_CREDENTIALS: Final = struct.Struct("=iII")
_MAP_LINK: Final = "anon_inode:bpf-map"


def is_bpf_map(descriptor: int) -> bool:
    """Returns True if a descriptor of this process is a BPF map."""
    return str(Path(f"/proc/self/fd/{descriptor}").readlink()) == _MAP_LINK


class Client:
    """Connects to the helper, and calls `connected` and `lost` when the connection begins and ends."""

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
        may raise any exception. `lost` gets the reason of a failed attempt, or of the end of
        the connection. `is_map` checks a descriptor.
        """
        self._address, self._connected, self._lost, self._clock = address, connected, lost, clock
        self._is_map = is_map
        self._sock: socket.socket | None = None
        self._is_greeted = False
        self._deadline = 0.0
        """The time of the next attempt. While the helper prepares the maps: the end of this attempt."""

    def attempt(self) -> None:
        """Connects, unless there is a connection or the last attempt was less than RETRY seconds ago. Call it often."""
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
        """Closes the connection, after which the helper detaches the program. Does not call `lost`."""
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
        self._sock, self._is_greeted = None, False

    def give_up(self, error: Exception) -> None:
        """Closes the connection after an unexpected error, and calls `lost`.

        The next attempt is after LONG_RETRY seconds.
        """
        self._fail(f"unexpected error: {type(error).__name__}: {error}", LONG_RETRY)

    def _fail(self, reason: str, retry: float = RETRY) -> None:
        self.close()
        self._deadline = self._clock() + retry
        self._lost(reason)

    def _receive(self) -> None:
        assert self._sock is not None
        descriptors: list[int] = []
        try:
            message, descriptors, _, _ = socket.recv_fds(
                self._sock, MESSAGE_MAX, 2 * len(MAPS), socket.MSG_CMSG_CLOEXEC
            )
            if message == REPLACED:
                self._fail(TAKEN_OVER, LONG_RETRY)
            elif message == CHANGED:
                self._fail(INTERFACE_CHANGED)
            elif not message:
                self._fail("the helper has closed the connection")
            elif not self._is_greeted:
                self._greet(decode_greeting(message), descriptors)
        except BlockingIOError:
            pass
        except (OSError, ValueError, AcceleratorError) as error:
            self._fail(_text(error))
        except Exception as error:  # noqa: BLE001  logged by `lost`; the worker answers without the accelerator
            self.give_up(error)
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

    The clocks differ in a time namespace with an offset (time_namespaces(7)). `offsets` is the file with the offsets.
    """
    lines = offsets.read_text().splitlines() if offsets.exists() else []
    if any(name == "monotonic" and (int(seconds) or int(ns)) for name, seconds, ns in map(str.split, lines)):
        raise AcceleratorError("this process has a time namespace with another clock")


def check_peer(sock: socket.socket) -> None:
    """Raises AcceleratorError unless the process at the other end runs as root or as the user of this process."""
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid not in (0, os.geteuid()):
        raise AcceleratorError(f"the helper runs as uid {uid}, and not as root")


def _text(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
