"""The messages that `svcdns accelerate` sends to a worker: JSON, one message a packet (AF_UNIX, SOCK_SEQPACKET).

The first message is the greeting, with a descriptor for each map of `layout.MAPS`, or an error. A later message
means that another worker is the owner now. The worker sends no messages, and closes the connection to stop the program.
"""

from __future__ import annotations

from typing import Final

import msgspec

from svcdns.accelerator.layout import LARGE, LAYOUT, SLOTS_MAX
from svcdns.errors import UNDECODABLE, SvcdnsError

DEFAULT_SOCKET: Final = "@svcdns-accelerator"
"""An abstract name: the containers of a Pod share it without a volume (unix(7))."""
IMAGE_UID: Final = 65532
"""The user of the DNS server in the image and in the manifests of deploy/."""
IPV4_HEADER: Final = 20
IPV6_HEADER: Final = 40
UDP_HEADER: Final = 8
ID: Final = 2
MESSAGE_MAX: Final = 16384
CPUS_MAX: Final = 8192
"""The most CPUs that a kernel can be built for."""
REPLACED: Final = b'{"replaced":true}'
"""The last message to a worker when another worker has become the owner."""
CHANGED: Final = b'{"changed":true}'
"""The last message to a worker when the interface or its addresses have changed."""


class AcceleratorError(SvcdnsError):
    """Raised if the accelerator cannot be used. The text names the cause."""


class Greeting(msgspec.Struct, frozen=True):
    """The first message to a worker: properties of the maps and of the interface."""

    layout: int = LAYOUT
    error: str = ""
    """The reason why the helper sends no maps; empty if it sends them."""
    interface: str = ""
    ifindex: int = 0
    addresses: tuple[str, ...] = ()
    """The addresses of the interface, without IPv6 link-local addresses."""
    small: int = 0
    large: int = 0
    cpus: int = 0
    mtu: int = 0
    """The MTU of the interface, or 0 if it is unknown."""

    @property
    def longest_reply(self) -> int:
        """Returns the length in octets, without the id, of the longest reply that fits a packet of the interface."""
        if not self.mtu:
            return LARGE
        header = IPV6_HEADER if any(":" in address for address in self.addresses) else IPV4_HEADER
        return max(0, min(LARGE, self.mtu - header - UDP_HEADER - ID))


def socket_address(text: str) -> str:
    """Returns the address for `bind` and `connect`: `@name` is an abstract name, any other text is a path."""
    return "\0" + text[1:] if text.startswith("@") else text


def encode_greeting(greeting: Greeting) -> bytes:
    """Returns the first message to a worker."""
    return msgspec.json.encode(greeting)


def decode_greeting(message: bytes) -> Greeting:
    """Reads the first message. Raises AcceleratorError for an error, another layout, or impossible values."""
    try:
        greeting = msgspec.json.decode(message, type=Greeting)
    except UNDECODABLE as error:
        raise AcceleratorError("the helper's first message is malformed") from error
    if greeting.error:
        raise AcceleratorError(greeting.error)
    if greeting.layout != LAYOUT:
        raise AcceleratorError(f"the helper has memory layout {greeting.layout}, this program has layout {LAYOUT}")
    sizes = ((greeting.small, SLOTS_MAX), (greeting.large, SLOTS_MAX), (greeting.cpus, CPUS_MAX))
    if not all(0 < size <= most for size, most in sizes):
        raise AcceleratorError("the helper's memory has an impossible size")
    return greeting
