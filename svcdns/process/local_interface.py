"""Adds and removes a network interface for addresses that stay on the machine, by rtnetlink(7). Linux only.

The interface is a dummy interface. If the kernel has no driver for dummy interfaces, the interface is a bridge without
ports. The process needs CAP_NET_ADMIN. An interface that another program has made is never changed, unless it is a
dummy interface.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Self

from svcdns.errors import SvcdnsError

KINDS: Final = (b"dummy", b"bridge")
ALIAS: Final = b"svcdns: addresses of a node-local DNS server"
"""The alias of the interface, which `ip link` shows. By the alias, a bridge of svcdns differs from other bridges."""
MAX_NAME: Final = 15
"""The longest name of an interface, in octets (IFNAMSIZ without the final zero)."""
TIMEOUT: Final = 10.0
"""Seconds in which the kernel must reply. The kernel may have to load a module first."""

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_NEWADDR = 16, 17, 18, 20
_REQUEST, _ACK, _REPLACE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_INFO_KIND = 3, 18, 20, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP: Final = 1
_NO_DAD: Final = 0x2  # no duplicate address detection (RFC 4862 §5.4): bind(2) would fail until its end
_ERROR: Final = 2
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")


class InterfaceError(SvcdnsError):
    """Raised if the interface cannot be added or removed. The text has the reason."""


def add(name: str, address: IPv4Address | IPv6Address) -> bool:
    """Adds an interface with an address, and turns it on. Returns True if there was no interface of this name.

    If an earlier call has added the interface, or if it is a dummy interface, adds the address to it. Raises
    InterfaceError.
    """
    with _Netlink(name) as kernel:
        created = kernel.create()
        kernel.give(address)
    return created


def remove(name: str) -> bool:
    """Removes an interface that `add` has added. Returns True if there was one. Raises InterfaceError."""
    with _Netlink(name) as kernel:
        return kernel.delete()


class _Netlink:
    """Requests to the kernel about one interface."""

    def __init__(self, name: str) -> None:
        if not 0 < len(name.encode()) <= MAX_NAME or "/" in name or name in (".", "..") or not name.isprintable():
            raise InterfaceError(f"{name!r} is no name of an interface: 1 to {MAX_NAME} characters were expected")
        self._name = name
        try:
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        except (AttributeError, OSError) as error:  # AF_NETLINK exists on Linux only
            raise InterfaceError("this system has no rtnetlink; Linux was expected") from error
        self._sock.settimeout(TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def create(self) -> bool:
        created = any(self._created(kind) for kind in KINDS) if self._find() is None else False
        try:
            self._ask(_RTM_NEWLINK, _link(self._own(trusted=created), up=True) + _attribute(_IFLA_IFALIAS, ALIAS))
        except OSError as error:
            raise self._failure("be turned on", error) from error
        return created

    def _created(self, kind: bytes) -> bool:
        """Creates an interface of a kind. Returns False if the kernel does not have this kind, or another process
        has created the interface meanwhile.
        """
        body = _link(0) + self._named() + _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kind))
        try:
            self._ask(_RTM_NEWLINK, body, _CREATE | _EXCLUSIVE)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP and kind != KINDS[-1]:
                return False
            raise self._failure("be added", error) from error
        return True

    def give(self, address: IPv4Address | IPv6Address) -> None:
        family, flags = (socket.AF_INET, 0) if address.version == 4 else (socket.AF_INET6, _NO_DAD)
        body = _ADDRESS.pack(family, address.max_prefixlen, flags, 0, self._own())
        body += _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
        try:
            self._ask(_RTM_NEWADDR, body, _CREATE | _REPLACE)
        except OSError as error:
            raise self._failure(f"get the address {address}", error) from error

    def delete(self) -> bool:
        if self._find() is None:
            return False
        try:
            self._ask(_RTM_DELLINK, _link(self._own()))
        except OSError as error:
            raise self._failure("be removed", error) from error
        return True

    def _find(self) -> tuple[int, bytes, bytes] | None:
        """Returns the number, the kind and the alias of the interface, or None if there is no such interface."""
        try:
            reply = self._ask(_RTM_GETLINK, _link(0) + self._named())
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise self._failure("be found", error) from error
        _, _, index, _, _ = _LINK.unpack_from(reply)
        attributes = _attributes(reply[_LINK.size :])
        kind = _attributes(attributes.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
        return index, kind.rstrip(b"\0"), attributes.get(_IFLA_IFALIAS, b"").rstrip(b"\0")

    def _own(self, *, trusted: bool = False) -> int:
        """Returns the number of the interface. Raises InterfaceError if it belongs to another program.

        `trusted` is True if this process has just created the interface.
        """
        index, kind, alias = self._find() or (0, b"", b"")
        if not index:
            raise InterfaceError(f"the interface {self._name} does not exist any more")
        if not (trusted or kind == KINDS[0] or alias == ALIAS):
            raise InterfaceError(f"the interface {self._name} exists, and belongs to another program")
        return index

    def _named(self) -> bytes:
        return _attribute(_IFLA_IFNAME, self._name.encode() + b"\0")

    def _ask(self, kind: int, body: bytes, flags: int = 0) -> bytes:
        """Sends a request, and returns the reply without its header (empty for an acknowledgement). Raises OSError."""
        wanted = 0 if kind == _RTM_GETLINK else _ACK
        self._sock.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | wanted | flags, 1, 0) + body)
        reply = self._sock.recv(65536)
        _, kind, _, _, _ = _HEADER.unpack_from(reply)
        if kind != _ERROR:
            return reply[_HEADER.size :]
        (number,) = struct.unpack_from("=i", reply, _HEADER.size)
        if number:
            raise OSError(-number, errno.errorcode.get(-number, "unknown error"))
        return b""

    def _failure(self, what: str, error: OSError) -> InterfaceError:
        if error.errno in (errno.EPERM, errno.EACCES):
            return InterfaceError(f"the interface {self._name} cannot {what} without the capability NET_ADMIN")
        return InterfaceError(f"the interface {self._name} cannot {what}: {error.strerror or error}")


def _link(index: int, *, up: bool = False) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP * up, _IFF_UP * up)


def _attribute(number: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, number) + value + bytes(-length % 4)


def _attributes(octets: bytes) -> dict[int, bytes]:
    out = {}
    while len(octets) >= _ATTRIBUTE.size:
        length, number = _ATTRIBUTE.unpack_from(octets)
        if length < _ATTRIBUTE.size:
            break
        out[number & 0x3FFF] = octets[_ATTRIBUTE.size : length]  # without the flags NLA_F_*
        octets = octets[length + (-length % 4) :]
    return out
