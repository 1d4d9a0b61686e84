"""A packet filter (classic BPF, socket(7)) that drops a share of the packets of some clients.

The kernel applies the filter before a packet takes space in the receive buffer. On a listening TCP socket, the filter
drops only the first packet of a connection (SYN), because accepted connections inherit it.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Mapping
from typing import Final

MAX_CLIENTS: Final = 16
"""The most clients in a filter."""
SO_ATTACH_FILTER: Final = 26
SO_DETACH_FILTER: Final = 27

_LOAD: Final = 0x20
"""BPF_LD, BPF_W, BPF_ABS."""
_LOAD_OCTET: Final = 0x30
"""BPF_LD, BPF_B, BPF_ABS."""
_AND: Final = 0x54
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER: Final = 0x25
_RETURN: Final = 0x06
_NETWORK_HEADER: Final = 0xFFF00000
"""SKF_NET_OFF: the offset of the network header, for `_LOAD`."""
_RANDOM: Final = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM: a random number, for `_LOAD`."""
_ALL: Final = 0xFFFFFFFF
_SOURCE: Final = {4: (12,), 8: (8, 12)}
"""The offsets of the source address in the IP header, for clients of 4 octets (IPv4) and of 8 octets (IPv6 /64)."""

Instruction = tuple[int, int, int, int]
"""Code, the number of instructions to skip if true and if false, and the operand."""
_KEEP: Final[Instruction] = (_RETURN, 0, 0, _ALL)


_TCP_FLAGS: Final = 13
"""The offset of the flags in the TCP header."""
_SYN, _ACK = 0x02, 0x10


def program(kept: Mapping[bytes, float], *, new_connections: bool = False) -> list[Instruction]:
    """Returns the BPF instructions of a filter that keeps only a share of the packets of some clients.

    `kept` has the share of each client, from 0 to 1. A client is the 4 octets of an IPv4 address, or the first 8 octets
    of an IPv6 address.
    """
    made: list[Instruction] = []
    if new_connections:
        made = [(_LOAD_OCTET, 0, 0, _TCP_FLAGS), (_AND, 0, 0, _SYN | _ACK), (_JUMP_EQUAL, 1, 0, _SYN), _KEEP]
    for client, share in kept.items():
        offsets = _SOURCE[len(client)]
        for number, offset in enumerate(offsets):
            word = int.from_bytes(client[4 * number : 4 * number + 4], "big")
            rest = 2 * (len(offsets) - 1 - number) + 4
            made += [(_LOAD, 0, 0, _NETWORK_HEADER + offset), (_JUMP_EQUAL, 0, rest, word)]
        made += [
            (_LOAD, 0, 0, _RANDOM),
            (_JUMP_GREATER, 0, 1, min(_ALL, int(share * _ALL))),
            (_RETURN, 0, 0, 0),
            _KEEP,
        ]
    return [*made, _KEEP]


def attach(sock: socket.socket, kept: Mapping[bytes, float], *, new_connections: bool = False) -> None:
    """Attaches the filter for `kept` (see `program`) to a socket, in place of an earlier filter.

    Raises OSError if the kernel does not support filters.
    """
    code = b"".join(
        struct.pack("=HBBI", *instruction) for instruction in program(kept, new_connections=new_connections)
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))


def detach(sock: socket.socket) -> None:
    """Removes the packet filter of a socket, if the socket has one."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except OSError:  # no filter, or no support for filters
        return
