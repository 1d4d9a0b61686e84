"""A listening socket of a worker, as the supervisor describes it, and the object that reads it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from svcdns.serving.transport.acceptor import Acceptor
from svcdns.serving.transport.udp import UdpReader

if TYPE_CHECKING:
    from svcdns.serving.transport.encrypted import DatagramServer

Place = tuple[str, int, str]
"""The host, port and protocol (`udp` or `tcp`) of a listener."""


class SocketDescription(msgspec.Struct, frozen=True):
    """A listening socket, as the supervisor describes it to a worker.

    `host` is empty for a socket of all addresses. `proto` is `udp` or `tcp`, and `family` is 4 or 6.
    """

    id: int
    slot: int
    host: str
    port: int
    proto: str
    family: int
    wildcard: bool


class ResponderKey(NamedTuple):
    """Identifies a responder by listener, protocol and address family. `family` is 1 for IPv4 and 2 for IPv6."""

    host: str
    port: int
    protocol: str
    family: int


class ListeningSocket:
    """An open socket. While the worker reads it, the socket has a UDP reader or an acceptor of connections."""

    def __init__(self, description: SocketDescription, sock: socket.socket) -> None:
        self.description, self.sock = description, sock
        family = 2 if description.family == 6 else 1
        self.key = ResponderKey(description.host, description.port, description.proto, family)
        """The key of the socket's responder."""
        self.reader: UdpReader | None = None
        self.server: DatagramServer | None = None
        """The server of an encrypted transport over UDP."""
        self.acceptor: Acceptor | None = None

    @property
    def active(self) -> bool:
        """Returns True while the worker reads the socket."""
        return self.reader is not None or self.acceptor is not None or self.server is not None

    @property
    def place(self) -> Place:
        """Returns the place of the socket's listener."""
        return self.description.host, self.description.port, self.description.proto
