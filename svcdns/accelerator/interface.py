"""Finds the network interface of a Pod, its driver and its addresses."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from svcdns.accelerator.protocol import AcceleratorError

POD_DRIVER: Final = "veth"
_NETWORK: Final = Path("/proc/net")
_SIOCETHTOOL: Final = 0x8946
_GET_DRIVER: Final = 3
_DRIVER_INFO: Final = 196
_UP, _REJECT = 0x1, 0x200


class UnusableInterface(AcceleratorError):
    """Raised if the interface is missing, or is not an interface of a Pod."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. `addresses` does not include IPv6 link-local addresses. `mtu` is 0 if it is unknown."""

    name: str
    index: int
    addresses: tuple[str, ...]
    mtu: int = 0

    def is_like(self, other: Interface) -> bool:
        """Returns True if `other` is the same interface, with the same addresses in any order."""
        return (self.name, self.index, self.mtu, frozenset(self.addresses)) == (
            *(other.name, other.index, other.mtu),
            frozenset(other.addresses),
        )


def pod_interface(name: str | None) -> Interface:
    """Returns the interface `name`, or without a name the interface of the default route. Raises UnusableInterface."""
    if name is None:
        name = default_interface()
    try:
        index = socket.if_nametoindex(name)
        driver = driver_of(name)
    except OSError as error:
        raise UnusableInterface(f"there is no interface {name} here") from error
    if driver != POD_DRIVER:
        raise UnusableInterface(
            f"the interface {name} has the driver {driver or 'none'}, not {POD_DRIVER}: is this the network of the host?"
        )
    families = {socket.AF_INET, socket.AF_INET6}
    found = [item.address.partition("%")[0] for item in psutil.net_if_addrs().get(name, []) if item.family in families]
    addresses = tuple(address for address in found if not address.lower().startswith("fe80:"))
    return Interface(name, index, addresses, _mtu(name))


def default_interface(network: Path = _NETWORK) -> str:
    """Returns the name of the interface of the default route: of IPv4, or else of IPv6. Raises UnusableInterface.

    `network` is the folder of the files `route` and `ipv6_route` (proc(5)).
    """
    for routes in (_ipv4_routes(network / "route"), _ipv6_routes(network / "ipv6_route")):
        if routes:
            return min(routes)[1]
    raise UnusableInterface("there is no default route here: name the interface with --interface")


def _ipv4_routes(path: Path) -> list[tuple[int, str]]:
    """Returns metric and interface of each default route of IPv4."""
    out = []
    for line in _lines(path)[1:]:
        name, target, _, flags, _, _, metric, mask, *_ = line.split()
        if int(target, 16) == int(mask, 16) == 0 and int(flags, 16) & (_UP | _REJECT) == _UP:
            out.append((int(metric), name))
    return out


def _ipv6_routes(path: Path) -> list[tuple[int, str]]:
    """Returns metric and interface of each default route of IPv6."""
    out = []
    for line in _lines(path):
        target, length, _, _, _, metric, _, _, flags, name = line.split()
        if int(target, 16) == int(length, 16) == 0 and int(flags, 16) & (_UP | _REJECT) == _UP:
            out.append((int(metric, 16), name))
    return out


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _mtu(name: str) -> int:
    stats = psutil.net_if_stats().get(name)
    return 0 if stats is None else stats.mtu


def driver_of(name: str) -> str:
    """Returns the name of an interface's driver, or an empty text (ETHTOOL_GDRVINFO). Raises OSError."""
    info = ctypes.create_string_buffer(struct.pack("=I", _GET_DRIVER), _DRIVER_INFO)
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(info))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:
            socket.if_nametoindex(name)
            return ""
    return info.raw[4:36].partition(b"\0")[0].decode("ascii", "replace")
