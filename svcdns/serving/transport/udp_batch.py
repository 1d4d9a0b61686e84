"""Receives and sends batches of datagrams of one UDP socket (Linux: recvmmsg, sendmmsg).

A batch has SLOTS slots. `receive` fills the first slots. The caller writes the reply for a slot into `replies`, and its
length into `sizes`, or 0 for no reply. `send` sends these replies. `queue_reply` and `flush` send replies that are made
later. On systems without these calls, each datagram needs its own system call.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
from array import array
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, Final, NamedTuple

SLOTS: Final = 32
RECEIVE_SIZE: Final = 4160
"""The octets of a request that are read; the rest is cut off, as in CoreDNS (docs/behaviour/server.md#sizes)."""
REPLY_SIZE: Final = 1536
"""The largest reply in octets that fits into a batch; larger replies are sent alone."""

IP_PKTINFO: Final = 8
IPV6_PKTINFO: Final = 50
_LINK_LOCAL: Final = bytes((0xFE, 0x80))
_NO_INTERFACES: Final = memoryview(bytes(4 * SLOTS)).cast("I")

Failed = Callable[[str, OSError], None]
"""Called when a system call has failed. The arguments are the operation, `receive` or `send`, and the error."""


Sender = Any
"""The source and the destination of a datagram, in a form that only its batch can read."""

Unsent = Callable[[OSError, bytes, Sender], bool]
"""Called with a reply that could not be sent. Returns True if it keeps the reply; then `Failed` is not called."""


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("hdr", _MsgHdr), ("len", ctypes.c_uint))


class Slot(NamedTuple):
    """The positions of one datagram and its reply in the buffers of a batch.

    `at` is the offset of the datagram in `data`, and `key_at` is `at` plus the length of the message id. `reply_at` is
    the offset of the reply in `replies`. `length` and `size` are indexes in `lengths` and `sizes`.
    """

    number: int
    at: int
    key_at: int
    length: int
    reply_at: int
    size: int


_LENGTH_STEP: Final = ctypes.sizeof(_MMsgHdr) // 4
_LENGTH_AT: Final = _MMsgHdr.len.offset // 4
_SIZE_STEP: Final = ctypes.sizeof(_IoVec) // ctypes.sizeof(ctypes.c_size_t)
_SIZE_AT: Final = _IoVec.len.offset // ctypes.sizeof(ctypes.c_size_t)
LAYOUT: Final = tuple(
    Slot(
        n,
        n * RECEIVE_SIZE,
        n * RECEIVE_SIZE + 2,
        n * _LENGTH_STEP + _LENGTH_AT,
        n * REPLY_SIZE,
        n * _SIZE_STEP + _SIZE_AT,
    )
    for n in range(SLOTS)
)
"""The offsets of all slots; they are the same in every batch."""
PLAIN_LAYOUT: Final = tuple(map(tuple, LAYOUT))
"""LAYOUT as plain tuples, for the loop that answers packets: unpacking a plain tuple takes a third of the time."""


class Batch:
    """A batch of datagrams: the interface of `_SystemBatch` and `_PortableBatch`.

    `data` has the received octets, and `replies` the octets of the replies. `lengths` and `sizes` have the lengths of
    the requests and of the replies.
    """

    data: bytes | mmap.mmap
    lengths: Sequence[int]
    replies: mmap.mmap
    sizes: MutableSequence[int] | memoryview
    unsent: Unsent | None = None
    _failed: Failed

    def receive(self) -> int:
        """Receives at most SLOTS datagrams, one for each slot. Returns the number of filled slots."""
        raise NotImplementedError

    def send(self, count: int, *, whole: bool) -> None:
        """Sends the replies of the first `count` slots. `whole` is True if each of these slots has a reply."""
        raise NotImplementedError

    def send_first(self, octets: int) -> None:
        """Sends the reply of the first slot. The reply has `octets` octets."""
        self.sizes[LAYOUT[0].size] = octets
        self.send(1, whole=True)

    def sender(self, slot: int) -> Sender:
        """Returns the sender of the datagram in a slot. The result stays valid after the next `receive`."""
        raise NotImplementedError

    def host(self, sender: Sender) -> str:
        """Returns the IP address of the sender, as text."""
        host: str = self.address(sender)[0]
        return host

    def client_key(self, sender: Sender) -> bytes:
        """Returns the octets that identify the client: its IPv4 address, or the first 64 bits of its IPv6 address."""
        raise NotImplementedError

    def client_keys(self, count: int) -> list[bytes]:
        """Returns the `client_key` of the senders of the datagrams in the first `count` slots."""
        return [self.client_key(self.sender(slot)) for slot in range(count)]

    def address(self, sender: Sender) -> Any:
        """Returns the address of the sender in the form that `socket.sendto` takes."""
        raise NotImplementedError

    def ancillary(self, sender: Sender) -> list[tuple[int, int, bytes]]:
        """Returns ancillary data for `socket.sendmsg`: the reply then has the source address to which the query was
        sent.

        Returns an empty list for a socket that is bound to one address.
        """
        raise NotImplementedError

    def queue_reply(self, sender: Sender, wire: bytes) -> bool:
        """Queues a reply of at most REPLY_SIZE octets. Returns True if the queue was empty."""
        raise NotImplementedError

    def flush(self) -> None:
        """Sends the queued replies."""
        raise NotImplementedError

    def lost(self, error: OSError, wire: bytes, sender: Sender) -> None:
        """Reports a reply that could not be sent."""
        if self.unsent is None or not self.unsent(error, wire, sender):
            self._failed("send", error)


def destination_address(ancillary: Sequence[tuple[int, int, bytes]]) -> str:
    """Returns the destination address of a datagram from its packet information, or an empty text.

    `ancillary` is the ancillary data of `recvmsg`.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""


def batch(sock: socket.socket, *, wildcard: bool, failed: Failed) -> Batch:
    """Returns a batch for a non-blocking UDP socket.

    `wildcard` is True if the socket is bound to all addresses. After a failed system call, `failed` is called with
    `receive` or `send`, and the OSError.
    """
    try:
        library = ctypes.PyDLL(None)
        return _SystemBatch(sock, library.recvmmsg, library.sendmmsg, wildcard=wildcard, failed=failed)
    except (OSError, AttributeError):
        return _PortableBatch(sock, wildcard=wildcard, failed=failed)


class _SystemBatch(Batch):
    """A batch that uses recvmmsg(2) and sendmmsg(2)."""

    def __init__(self, sock: socket.socket, recvmmsg: Any, sendmmsg: Any, *, wildcard: bool, failed: Failed) -> None:
        self._recvmmsg, self._sendmmsg, self._failed = recvmmsg, sendmmsg, failed
        self._sock, self._fd = sock, sock.fileno()
        self._ipv6 = sock.family == socket.AF_INET6
        self._name_size = 28 if self._ipv6 else 16
        self._control_size = 0 if not wildcard else socket.CMSG_SPACE(20 if self._ipv6 else 12)
        self._control_at = 32 if self._ipv6 else 16
        self._step = self._control_at + self._control_size
        self.data = mmap.mmap(-1, SLOTS * RECEIVE_SIZE)
        self.replies = mmap.mmap(-1, SLOTS * REPLY_SIZE)
        self._ends = mmap.mmap(-1, SLOTS * self._step)
        """The address of the sender and the packet information of each slot."""
        self._in_vectors = self._vectors(self.data, RECEIVE_SIZE, RECEIVE_SIZE)
        self._out_vectors = self._vectors(self.replies, REPLY_SIZE, 0)
        self._in, self._out = self._headers(self._in_vectors, self._ends), self._headers(self._out_vectors, self._ends)
        self._in_at = ctypes.c_void_p(_address_of(self._in))
        self._out_at = _header_pointers(self._out)
        self._first_out = self._out_at[0]
        self._outbox: list[tuple[bytes, bytes]] = []
        """The queued replies: pairs of a sender and the octets of the reply."""
        self._queue_data, self._queue_ends = mmap.mmap(-1, SLOTS * REPLY_SIZE), mmap.mmap(-1, SLOTS * self._step)
        self._queue_base = _address_of(self._queue_data)
        self._queue_vectors = self._vectors(self._queue_data, REPLY_SIZE, 0)
        self._queue_parts = memoryview(self._queue_vectors).cast("L")
        self._queue_headers = self._headers(self._queue_vectors, self._queue_ends)
        self._queue_at = _header_pointers(self._queue_headers)
        self.lengths = memoryview(self._in).cast("I")
        self.sizes = memoryview(self._out_vectors).cast("L")
        head = self._control_at + socket.CMSG_LEN(0)
        self._pktinfo_at = tuple(n * self._step + head for n in range(SLOTS)) if wildcard else ()
        self._interfaces = (
            memoryview(self._ends).cast("I")[head // 4 :: self._step // 4] if wildcard and not self._ipv6 else None
        )

    @staticmethod
    def _vectors(buffer: mmap.mmap, step: int, size: int) -> bytearray:
        base = _address_of(buffer)
        made = bytearray(SLOTS * ctypes.sizeof(_IoVec))
        for number, vector in enumerate((_IoVec * SLOTS).from_buffer(made)):
            vector.base, vector.len = base + number * step, size
        return made

    def _headers(self, vectors: bytearray, ends: mmap.mmap) -> bytearray:
        ends_at, vectors_at = _address_of(ends), _address_of(vectors)
        made = bytearray(SLOTS * ctypes.sizeof(_MMsgHdr))
        for number, message in enumerate((_MMsgHdr * SLOTS).from_buffer(made)):
            header = message.hdr
            header.name, header.namelen = ends_at + number * self._step, self._name_size
            header.iov, header.iovlen = vectors_at + number * ctypes.sizeof(_IoVec), 1
            if self._control_size:
                header.control, header.controllen = header.name + self._control_at, self._control_size
        return made

    def receive(self) -> int:
        count: int = self._recvmmsg(self._fd, self._in_at, SLOTS, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return self._receive_nothing()
        if self._pktinfo_at:
            self._clear_interfaces(count)
        return count

    def _receive_nothing(self) -> int:
        """Calls `failed` with the socket's error, if there is one. Returns 0.

        Called when recvmmsg has received nothing.
        """
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._failed("receive", error)
        return 0

    def _clear_interfaces(self, count: int) -> None:
        """Removes the interface from each reply's packet information, so that the routing table chooses it.

        Replies from link-local addresses keep their interface.
        """
        if self._interfaces is not None:
            if count == 1:
                self._interfaces[0] = 0
            else:
                self._interfaces[:count] = _NO_INTERFACES[:count]
            return
        ends = self._ends
        for at in self._pktinfo_at[:count]:
            if ends[at] != _LINK_LOCAL[0] or ends[at + 1] & 0xC0 != _LINK_LOCAL[1]:
                ends[at + 16 : at + 20] = b"\0\0\0\0"

    def send(self, count: int, *, whole: bool) -> None:
        at = 0
        while at < count:
            end = count if whole else self._end_of_run(at, count)
            if end == at:
                at += 1
                continue
            sent: int = self._sendmmsg(self._fd, self._out_at[at], end - at, socket.MSG_DONTWAIT)
            if sent <= 0:
                self._send_alone(at)
                sent = 1
            at += sent

    def send_first(self, octets: int) -> None:
        self.sizes[_SIZE_AT] = octets
        if self._sendmmsg(self._fd, self._first_out, 1, socket.MSG_DONTWAIT) <= 0:
            self._send_alone(0)

    def _send_alone(self, slot: int) -> None:
        """Sends a reply again with Python's own call, which reports the error. Called after sendmmsg has failed."""
        start = slot * REPLY_SIZE
        self._retry(self.replies[start : start + self.sizes[LAYOUT[slot].size]], self.sender(slot))

    def _retry(self, wire: bytes, sender: Sender) -> None:
        try:
            self._sock.sendmsg((wire,), self.ancillary(sender), 0, self.address(sender))
        except OSError as error:
            self.lost(error, wire, sender)

    def _end_of_run(self, at: int, count: int) -> int:
        while at < count and self.sizes[LAYOUT[at].size]:
            at += 1
        return at

    def sender(self, slot: int) -> Sender:
        return self._ends[slot * self._step : (slot + 1) * self._step]

    def address(self, sender: Sender) -> Any:
        port = int.from_bytes(sender[2:4], "big")
        if not self._ipv6:
            return socket.inet_ntop(socket.AF_INET, sender[4:8]), port
        scope = int.from_bytes(sender[24:28], "little" if memoryview(b"\1\0").cast("H")[0] == 1 else "big")
        return socket.inet_ntop(socket.AF_INET6, sender[8:24]), port, 0, scope

    def client_key(self, sender: Sender) -> bytes:
        key: bytes = sender[8:16] if self._ipv6 else sender[4:8]
        return key

    def host(self, sender: Sender) -> str:
        return (
            socket.inet_ntop(socket.AF_INET6, sender[8:24])
            if self._ipv6
            else socket.inet_ntop(socket.AF_INET, sender[4:8])
        )

    def ancillary(self, sender: Sender) -> list[tuple[int, int, bytes]]:
        if not self._control_size:
            return []
        at = self._control_at + socket.CMSG_LEN(0)
        if self._ipv6:
            return [(socket.IPPROTO_IPV6, IPV6_PKTINFO, sender[at : at + 20])]
        return [(socket.IPPROTO_IP, IP_PKTINFO, sender[at : at + 12])]

    def queue_reply(self, sender: Sender, wire: bytes) -> bool:
        self._outbox.append((sender, wire))
        return len(self._outbox) == 1

    def flush(self) -> None:
        replies, self._outbox = self._outbox, []
        if self._sock.fileno() != self._fd:  # the socket was closed: another socket may have its number by now
            for sender, wire in replies:
                self._retry(wire, sender)
            return
        if len(replies) == 1:
            self._send_only(*replies[0])
            return
        for begin in range(0, len(replies), SLOTS):
            self._send_queued(replies[begin : begin + SLOTS])

    def _send_only(self, sender: bytes, wire: bytes) -> None:
        """Sends the only queued reply."""
        octets, parts = len(wire), self._queue_parts
        self._queue_ends[: len(sender)], self._queue_data[:octets] = sender, wire
        parts[0], parts[1] = self._queue_base, octets
        if self._sendmmsg(self._fd, self._queue_at[0], 1, socket.MSG_DONTWAIT) <= 0:
            self._retry(wire, sender)

    def _send_queued(self, replies: list[tuple[bytes, bytes]]) -> None:
        parts: list[int] = []
        base = self._queue_base
        ends, data = b"".join([sender for sender, _ in replies]), b"".join([wire for _, wire in replies])
        for _, wire in replies:
            parts += (base, len(wire))
            base += len(wire)
        self._queue_ends[: len(ends)], self._queue_data[: len(data)] = ends, data
        self._queue_parts[: len(parts)] = array("L", parts)
        at, count = 0, len(replies)
        while at < count:
            sent: int = self._sendmmsg(self._fd, self._queue_at[at], count - at, socket.MSG_DONTWAIT)
            if sent <= 0:
                sender, wire = replies[at]
                self._retry(wire, sender)
                sent = 1
            at += sent


class _PortableBatch(Batch):
    """A batch for systems without recvmmsg and sendmmsg. Each datagram has its own system call."""

    def __init__(self, sock: socket.socket, *, wildcard: bool, failed: Failed) -> None:
        self._sock, self._failed = sock, failed
        self._room = socket.CMSG_SPACE(20) if wildcard else 0
        self._senders: list[tuple[Any, list[tuple[int, int, bytes]]]] = [(None, [])] * SLOTS
        self.data = b""
        self.lengths: list[int] = [0] * (SLOTS * _LENGTH_STEP)
        self.sizes: list[int] = [0] * (SLOTS * _SIZE_STEP)
        self.replies = mmap.mmap(-1, SLOTS * REPLY_SIZE)

    def receive(self) -> int:
        packets = []
        for slot in LAYOUT:
            try:
                packet, ancillary, _, address = self._sock.recvmsg(RECEIVE_SIZE, self._room)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._failed("receive", error)
                break
            self._senders[slot.number] = (address, [item for item in map(_routed, ancillary) if item])
            self.lengths[slot.length] = len(packet)
            packets.append(packet.ljust(RECEIVE_SIZE, b"\0"))
        self.data = b"".join(packets)
        return len(packets)

    def send(self, count: int, *, whole: bool) -> None:  # noqa: ARG002 - each reply is sent by itself in any case
        for slot in LAYOUT[:count]:
            size = self.sizes[slot.size]
            if size:
                self._send(self.replies[slot.reply_at : slot.reply_at + size], self._senders[slot.number])

    def sender(self, slot: int) -> Sender:
        return self._senders[slot]

    def client_key(self, sender: Sender) -> bytes:
        return socket.inet_pton(self._sock.family, sender[0][0].partition("%")[0])[:8]

    def address(self, sender: Sender) -> Any:
        return sender[0]

    def ancillary(self, sender: Sender) -> list[tuple[int, int, bytes]]:
        ancillary: list[tuple[int, int, bytes]] = sender[1]
        return ancillary

    def queue_reply(self, sender: Sender, wire: bytes) -> bool:
        self._send(wire, sender)
        return False

    def _send(self, wire: bytes, sender: Sender) -> None:
        address, ancillary = sender
        try:
            self._sock.sendmsg((wire,), ancillary, 0, address)
        except OSError as error:
            self.lost(error, wire, sender)

    def flush(self) -> None:
        """Does nothing, because `queue_reply` sends each reply itself."""


def _routed(item: tuple[int, int, bytes]) -> tuple[int, int, bytes] | None:
    """Returns an item of packet information without its interface. Returns None for an item of another type.

    Packet information of a link-local address keeps its interface.
    """
    level, kind, data = item
    if level == socket.IPPROTO_IP and kind == getattr(socket, "IP_PKTINFO", IP_PKTINFO):
        return level, kind, b"\0\0\0\0" + data[4:12]
    if level == socket.IPPROTO_IPV6 and kind == getattr(socket, "IPV6_PKTINFO", IPV6_PKTINFO):
        local = data[0] == _LINK_LOCAL[0] and data[1] & 0xC0 == _LINK_LOCAL[1]
        return level, kind, data if local else data[:16] + b"\0\0\0\0"
    return None


def _header_pointers(headers: bytearray) -> tuple[ctypes.c_void_p, ...]:
    """Returns pointers to the mmsghdr structures in `headers`, one for each slot."""
    return tuple(ctypes.c_void_p(_address_of(headers) + n * ctypes.sizeof(_MMsgHdr)) for n in range(SLOTS))


def _address_of(buffer: bytearray | mmap.mmap) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
