"""Network namespaces, joined by pairs of virtual Ethernet interfaces (veth), as a node and its Pods are.

The namespaces need root and `ip` of iproute2. The name of a namespace contains the id of the process that made it. The
class `VirtualNetwork` removes its namespaces at the end, and the namespaces of processes that were killed.

"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self, TypeVar

T = TypeVar("T")
_CLONE_NEWNET: Final = 0x40000000
_SIOCETHTOOL: Final = 0x8946
OFFLOADS: Final[Mapping[str, tuple[int, int]]] = {
    "rx": (0x14, 0x15),
    "tx": (0x16, 0x17),
    "tso": (0x1E, 0x1F),
    "gso": (0x23, 0x24),
    "gro": (0x2B, 0x2C),
}
"""Offloads of an interface: the numbers of the requests that read and set them (linux/ethtool.h)."""

_numbers = itertools.count(1)
_NAME = re.compile(r"^svcdns-(\d+)-\d+-\w+", re.MULTILINE)


def why_unavailable() -> str:
    """Returns the reason why this process cannot make the namespaces, or an empty text if it can."""
    try:
        with VirtualNetwork("a", "b") as network:
            network.join("a", "eth0", "b", "eth0")
    except (OSError, subprocess.CalledProcessError) as error:
        text = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        return f"this machine does not permit network namespaces with virtual interfaces: {text}"
    return ""


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Namespace:
    """A network namespace, with its loopback interface up."""

    def __init__(self, label: str) -> None:
        """Makes the namespace. Raises OSError or CalledProcessError."""
        self.name = f"svcdns-{os.getpid()}-{next(_numbers)}-{label}"
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> str:
        """Runs `ip` for this namespace, and returns its output. Raises CalledProcessError."""
        return _ip("-n", self.name, *words)

    def command(self, *words: str) -> list[str]:
        """Returns the command line that runs a command in this namespace."""
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str) -> str:
        """Runs a command in this namespace, and returns its output. Raises CalledProcessError."""
        return subprocess.run(self.command(*words), check=True, capture_output=True, text=True).stdout

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Context manager that moves the calling thread into this namespace, and back at the end.

        Sockets that the thread opens meanwhile stay in this namespace. Raises OSError.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            inside = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            try:
                _checked(libc.setns(inside, _CLONE_NEWNET))
            finally:
                os.close(inside)
            try:
                yield
            finally:
                _checked(libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)

    def inside(self, call: Callable[[], T]) -> T:
        """Returns the result of `call`, which runs in this namespace."""
        with self.entered():
            return call()

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> socket.socket:
        """Returns a new socket in this namespace."""
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def mac(self, interface: str) -> bytes:
        """Returns the hardware address of an interface."""
        found = re.search(r"link/ether (\S+)", self.ip("link", "show", "dev", interface))
        assert found is not None, interface
        return bytes.fromhex(found[1].replace(":", ""))

    def offload(self, interface: str, name: str) -> bool:
        """Returns True if an offload of `OFFLOADS` is on."""
        return bool(self._ethtool(interface, OFFLOADS[name][0], 0))

    def set_offload(self, interface: str, on: bool, *names: str) -> None:
        """Switches offloads of `OFFLOADS` on or off. Raises OSError if the interface does not permit it."""
        for name in names:
            self._ethtool(interface, OFFLOADS[name][1], int(on))

    def _ethtool(self, interface: str, request: int, value: int) -> int:
        data = ctypes.create_string_buffer(struct.pack("=II", request, value), 8)
        with self.socket() as sock:
            fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP16x", interface.encode(), ctypes.addressof(data)))
        return int(struct.unpack("=II", data.raw)[1])

    def receive_on(self, interface: str, core: int) -> None:
        """Makes the kernel process the packets that an interface receives on a CPU core (receive packet steering)."""
        path = f"/sys/class/net/{interface}/queues/rx-0/rps_cpus"
        self.run("sh", "-c", f"echo {1 << core:x} > {path}")

    def close(self) -> None:
        """Removes the namespace. The kernel keeps it until its last process ends."""
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.name)


class VirtualNetwork:
    """Namespaces by their labels. A context manager, which removes the namespaces at the end."""

    def __init__(self, *labels: str) -> None:
        """Makes one namespace for each label. Raises OSError or CalledProcessError."""
        _remove_abandoned()
        self.namespaces: dict[str, Namespace] = {}
        try:
            for label in labels:
                self.namespaces[label] = Namespace(label)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, label: str) -> Namespace:
        return self.namespaces[label]

    def join(
        self,
        left: str,
        left_interface: str,
        right: str,
        right_interface: str,
        *,
        left_addresses: Sequence[str] = (),
        right_addresses: Sequence[str] = (),
    ) -> None:
        """Adds a pair of interfaces, one in each namespace, sets their addresses, and switches both on.

        An address has the form `10.99.0.1/24` or `fd99::1/64`.
        """
        pair = ["link", "add", left_interface, "netns", self[left].name, "type", "veth"]
        _ip(*pair, "peer", "name", right_interface, "netns", self[right].name)
        for label, interface, addresses in (
            (left, left_interface, left_addresses),
            (right, right_interface, right_addresses),
        ):
            for address in addresses:
                family = ("-6",) if ":" in address else ()
                self[label].ip(
                    *family, "addr", "add", address, "dev", interface, *(("nodad",) if family else ())
                )  # without detection of duplicates, the address can be used before another host could answer
            self[label].ip("link", "set", interface, "up")

    def close(self) -> None:
        """Removes all namespaces."""
        for namespace in self.namespaces.values():
            namespace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove_abandoned() -> None:
    """Removes the namespaces of processes that do not exist any more."""
    for found in _NAME.finditer(_ip("netns", "list")):
        if not Path("/proc", found[1]).exists():
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", found[0])


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
