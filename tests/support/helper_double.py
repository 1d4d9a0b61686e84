"""A double of `svcdns accelerate`: it hands over files in memory, and reads them as the program in the kernel does."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

import msgspec

from svcdns.accelerator.protocol import REPLACED, Greeting, encode_greeting
from tests.support.kernel_program import KernelProgram, make_maps


class HelperDouble:
    """Listens at a path. Each connection gets maps of its own, and becomes the owner. Use it in an event loop."""

    def __init__(self, path: Path, greeting: Greeting, maps: int = 6) -> None:
        """`greeting` has the addresses and sizes. `maps` is the number of descriptors that are sent."""
        self._greeting, self._maps = greeting, maps
        self.programs: list[KernelProgram] = []
        """The programs of all connections."""
        self._owner: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    @property
    def program(self) -> KernelProgram:
        """Returns the program of the owner."""
        return self.programs[-1]

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        greeting = self._greeting
        descriptors = make_maps(greeting.small, greeting.large, greeting.cpus)
        self.programs.append(KernelProgram(descriptors))
        socket.send_fds(connection, [encode_greeting(greeting)], descriptors[: self._maps])
        for descriptor in descriptors:
            os.close(descriptor)
        self.replace(connection)

    def replace(self, owner: socket.socket | None = None) -> None:
        """Tells the owner that another worker has taken over."""
        if self._owner is not None:
            with self._owner, suppress(BrokenPipeError):
                self._owner.send(REPLACED)
        self._owner = owner

    def has_owner(self) -> bool:
        """Returns True if the owner's connection is open."""
        if self._owner is None:
            return False
        try:
            return bool(self._owner.recv(1, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True

    def die(self) -> None:
        """Closes the owner's connection."""
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def close(self) -> None:
        """Closes all sockets, and unmaps the memory."""
        if self._listener.fileno() < 0:
            return
        self.die()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for program in self.programs:
            program.close()


def greeting(*addresses: str, small: int = 64, large: int = 8) -> Greeting:
    """Returns the greeting for an interface with these addresses."""
    return Greeting(interface="eth0", ifindex=2, addresses=addresses, small=small, large=large, cpus=2)


def failing(text: str) -> Greeting:
    """Returns the greeting of a helper that has no program."""
    return msgspec.structs.replace(greeting(), error=text)
