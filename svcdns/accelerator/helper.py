"""`svcdns accelerate`: gives the maps of the accelerator to the worker that connects, and keeps the program attached.

Each new connection gets maps and a program of its own, and becomes the owner. At the same time, the program of an
earlier owner is detached, so later writes of the earlier owner have no effect. When the owner's connection ends, the
program is detached. The kernel detaches the program if this process dies.

When the interface or its addresses change, the program is detached too, because it may answer at an address that is
gone. The owner connects again, and learns the present addresses and MTU.

Only processes of chosen users become the owner, because the owner writes the replies. At most MAX_NEW connections in
NEW_PERIOD get maps, because a process that keeps descriptors keeps the memory of the maps.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

from svcdns.accelerator import bpf
from svcdns.accelerator.elf import Program, read_program
from svcdns.accelerator.interface import Interface, UnusableInterface, pod_interface
from svcdns.accelerator.interface_changes import open_changes, read_changes
from svcdns.accelerator.layout import LARGE_SLOTS, MAPS, SMALL_SLOTS, program_shapes
from svcdns.accelerator.obstacles import explain, explain_rejection, read_rights
from svcdns.accelerator.protocol import (
    CHANGED,
    IMAGE_UID,
    REPLACED,
    AcceleratorError,
    Greeting,
    encode_greeting,
    socket_address,
)
from svcdns.eventloop.clock import Clock, monotonic
from svcdns.log_line import LogLine

log = logging.getLogger("svcdns")

SECTION: Final = "tcx"
MAX_NEW: Final = 4
"""The most connections that get maps in NEW_PERIOD. An upgrade in place needs one."""
NEW_PERIOD: Final = 4.0
"""Seconds, less than `client.RETRY`, so that a refused worker gets maps at its next attempt."""
PAUSE: Final = 0.1
"""The seconds for which the helper accepts no connection after a lack of descriptors or memory."""
_LACKS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_MAX_REFUSED: Final = 16
"""The most users whose refusals are logged."""
_POSSIBLE_CPUS: Final = Path("/sys/devices/system/cpu/possible")
_PEER: Final = struct.Struct("=iII")


class SocketTaken(AcceleratorError):
    """Raised if the socket cannot be opened."""


def possible_cpus(path: Path = _POSSIBLE_CPUS) -> int:
    """Returns the number of CPUs that the machine can have: the map `counts` has an element for each CPU."""
    return int(path.read_text().strip().replace("-", ",").rpartition(",")[2]) + 1


class Refused(AcceleratorError):
    """Raised if a process gets no maps, for a reason that only concerns this process."""


def peer(connection: socket.socket) -> tuple[int, int]:
    """Returns the process id and the uid of the process that connected, which the kernel reports (unix(7)).

    The process id is 0 if that process has a PID namespace of its own, as another container of the Pod has.
    """
    pid, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid


class Attachment:
    """Attaches the program to an interface, and replaces and detaches it."""

    def __init__(self, interface: str | None) -> None:
        """`interface` is a name, or None for the interface of the default route. Call `renew` to attach a program."""
        self._wanted = interface
        self._link: int | None = None
        self._index = 0
        self._interface: Interface | None = None
        """The interface as it was when the last program was attached."""

    def renew(self) -> tuple[Interface, dict[str, int]]:
        """Attaches a new program with empty maps, in place of an earlier one. Returns the descriptors of the maps.

        The caller closes the descriptors. Raises AcceleratorError. After an error, the earlier program stays attached.
        """
        bpf.check_machine()
        try:
            interface = pod_interface(self._wanted)
            maps = self._renew(interface, read_program(_object(), SECTION))
        except bpf.Rejected as error:
            raise AcceleratorError(explain_rejection(error)) from error
        except OSError as error:
            raise AcceleratorError(explain(error, read_rights())) from error
        self._interface = interface
        return interface, maps

    def change(self) -> str:
        """Returns how the interface differs from the one of the last program, or an empty text."""
        try:
            present = pod_interface(self._wanted)
        except UnusableInterface as error:
            return str(error)
        if self._interface is None or present.is_like(self._interface):
            return ""
        return f"the interface {present.name} or its addresses have changed"

    def _renew(self, interface: Interface, code: Program) -> dict[str, int]:
        maps: dict[str, int] = {}
        with ExitStack() as undo:
            for name, (size, elements) in program_shapes(SMALL_SLOTS, LARGE_SLOTS, possible_cpus()).items():
                maps[name] = bpf.create_map(name, size, elements)
                undo.callback(os.close, maps[name])
            program = bpf.load_program(code, maps)
            try:
                self._attach(program, interface.index)
            finally:
                os.close(program)
            undo.pop_all()
        return maps

    def _attach(self, program: int, index: int) -> None:
        if self._link is not None and self._index == index:
            try:
                bpf.replace(self._link, program)
            except OSError as error:
                if error.errno != errno.ENOLINK:  # the interface was removed, and another one has its number
                    raise
            else:
                return
        link = bpf.attach(program, index)
        self.detach()
        self._link, self._index = link, index

    def detach(self) -> None:
        """Detaches the program, if there is one."""
        if self._link is not None:
            os.close(self._link)
            self._link = None


def _object() -> bytes:
    return files("svcdns.accelerator").joinpath("answers.bpf.o").read_bytes()


class Helper:
    """Serves the socket. One connection at a time is the owner."""

    def __init__(
        self, address: str, attachment: Attachment, users: Iterable[int] = (IMAGE_UID,), clock: Clock = monotonic
    ) -> None:
        """Opens the socket at `address` (`@name` for an abstract one).

        Raises SocketTaken, or AcceleratorError if changes of the interface cannot be seen.
        Processes of root and of the uids in `users` may become the owner.
        """
        self._attachment, self._clock = attachment, clock
        self._users = frozenset(users) | {0}
        self._refused: set[int] = set()
        """The uids whose refusal is logged."""
        self._renewed: deque[float] = deque(maxlen=MAX_NEW)
        """The times at which the last connections were admitted to get maps."""
        self._owner: socket.socket | None = None
        self._failure = ""
        self._listener = _listen(address)
        try:
            self._changes = open_changes()
        except OSError as error:
            self._listener.close()
            raise AcceleratorError(f"changes of the interface cannot be seen: {error.strerror}") from error

    def check(self) -> Interface:
        """Attaches and detaches a program, as a test. Raises AcceleratorError."""
        interface, maps = self._attachment.renew()
        self._attachment.detach()
        for descriptor in maps.values():
            os.close(descriptor)
        return interface

    def serve_once(self) -> None:
        """Waits for a connection, the end of the owner's connection, or a change of the interface, and handles it."""
        waiting = [self._changes, self._listener]
        if self._owner is not None:
            waiting.append(self._owner)
        ready, _, _ = select.select(waiting, [], [])
        if self._owner in ready and self._has_ended(self._owner):
            self._release("the worker closed its connection")
        if self._changes in ready:
            read_changes(self._changes)
            self._check_interface()
        if self._listener in ready:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _LACKS:
                    raise
                self.note_failure(f"a connection cannot be accepted: {error.strerror}")
                select.select([] if self._owner is None else [self._owner], [], [], PAUSE)
                return
            self._accept(connection)

    def close(self) -> None:
        """Detaches the program, and closes the sockets."""
        self._attachment.detach()
        if self._owner is not None:
            self._owner.close()
        self._listener.close()
        self._changes.close()

    def note_failure(self, text: str) -> None:
        """Writes a log line, unless it is the same as the previous line."""
        if text != self._failure:
            log.error(LogLine("accelerator not available", error=text))
            self._failure = text

    def _accept(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if self._has_ended(connection):  # a second `svcdns accelerate` has only checked whether this one runs
            connection.close()
            return
        pid, uid = peer(connection)
        try:
            self._admit(uid)
            interface, maps = self._attachment.renew()
        except AcceleratorError as error:
            if not isinstance(error, Refused):
                self.note_failure(str(error))
            with connection, suppress(OSError):
                connection.send(encode_greeting(Greeting(error=str(error))))
            return
        self._failure = ""
        earlier, self._owner = self._owner, connection
        try:
            _send_maps(connection, interface, maps)
        except OSError as error:
            self._release(f"the worker did not take the maps: {error.strerror}")
        else:
            log.info(LogLine("accelerator attached", interface=interface.name, pid=pid or None, uid=uid))
        finally:
            for descriptor in maps.values():
                os.close(descriptor)
            if earlier is not None:
                with earlier, suppress(OSError):
                    earlier.send(REPLACED)

    def _admit(self, uid: int) -> None:
        """Raises Refused if a process with this uid may not become the owner now."""
        if uid not in self._users:
            reason = f"uid {uid} may not write replies: permit it with 'svcdns accelerate --uid {uid}'"
            if uid not in self._refused and len(self._refused) < _MAX_REFUSED:
                self._refused.add(uid)
                log.warning(LogLine("accelerator refused a process", reason=reason))
            raise Refused(reason)
        now = self._clock()
        if len(self._renewed) == MAX_NEW and now < self._renewed[0] + NEW_PERIOD:
            reason = f"more than {MAX_NEW} workers connected within {NEW_PERIOD:.0f} s"
            self.note_failure(reason)
            raise Refused(reason)
        self._renewed.append(now)

    def _check_interface(self) -> None:
        """Ends the owner's connection if the interface has changed."""
        if self._owner is not None and (reason := self._attachment.change()):
            self._attachment.detach()
            with suppress(OSError):
                self._owner.send(CHANGED)
            self._release(reason)

    def _release(self, reason: str) -> None:
        self._attachment.detach()
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        log.info(LogLine("accelerator detached", reason=reason))

    @staticmethod
    def _has_ended(connection: socket.socket | None) -> bool:
        assert connection is not None
        try:
            return not connection.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True


def _send_maps(connection: socket.socket, interface: Interface, maps: dict[str, int]) -> None:
    greeting = Greeting(
        interface=interface.name,
        ifindex=interface.index,
        addresses=interface.addresses,
        small=SMALL_SLOTS,
        large=LARGE_SLOTS,
        cpus=possible_cpus(),
        mtu=interface.mtu,
    )
    socket.send_fds(connection, [encode_greeting(greeting)], [maps[name] for name in MAPS])


def _listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if not address.startswith("@"):
            _remove_abandoned(address)
        listener.bind(socket_address(address))
        if not address.startswith("@"):
            Path(address).chmod(0o666)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SocketTaken(f"the socket {address} is taken: does another 'svcdns accelerate' run here?") from error
        raise SocketTaken(f"the socket {address} cannot be opened: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _remove_abandoned(path: str) -> None:
    """Removes a socket file that no process listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        except OSError:
            return
