"""Batches of datagrams in and out of one socket, in two system calls where the kernel has them (Linux: recvmmsg,
sendmmsg).

A batch has SLOTS slots. `receive` fills the first few. The caller writes each reply into the same slot's part of
`replies`, and its length, or 0 for none, into `sizes`; `send` sends these replies. The next `receive` overwrites all of
it. Addresses stay where the kernel put them: a reply goes to the sender of its query and, on a wildcard socket, leaves
from the address that the query was sent to (packet information, RFC 3542 §6.2). A reply that is made later keeps its
`sender`: `queue_reply` collects such replies, and `flush` sends many in one call too. All buffers are made once. They
are memory maps: their slices are bytes, and they take bytes without a copy between. Knows no DNS.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
from array import array
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, Final, NamedTuple

SLOTS: Final = 32
RECEIVE_SIZE: Final = 512
"""Octets taken of a request; the rest of a longer one is cut off, as CoreDNS does (docs/behaviour/server.md#sizes)."""
REPLY_SIZE: Final = 1536
"""Octets of a reply that fits into a batch; larger ones are sent alone."""

IP_PKTINFO: Final = 8
IPV6_PKTINFO: Final = 50
_LINK_LOCAL: Final = bytes((0xFE, 0x80))
_NO_INTERFACES: Final = memoryview(bytes(4 * SLOTS)).cast("I")

Failed = Callable[[str, OSError], None]
"""Called when a system call failed: `receive` or `send`, and the error."""


Sender = Any
"""The source and the destination of a datagram, in the batch's own form."""


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
    """Where the parts of one slot are: in `data`, in `lengths`, in `replies` and in `sizes`."""

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
"""The slots of every batch."""
PLAIN_LAYOUT: Final = tuple(map(tuple, LAYOUT))
"""The same for the hot loop: a plain tuple is unpacked in a third of the time."""


class Batch:
    """The interface of both kinds of batch.

    `data` has the received octets, `lengths` and `sizes` the octets of each slot's request and reply, `replies` takes
    the replies.
    """

    data: bytes | mmap.mmap
    lengths: Sequence[int]
    replies: mmap.mmap
    sizes: MutableSequence[int] | memoryview

    def receive(self) -> int:
        """Receives at most SLOTS datagrams; returns how many slots are filled."""
        raise NotImplementedError

    def send(self, count: int, *, whole: bool) -> None:
        """Sends the replies of the first `count` slots; `whole` if each of them has one."""
        raise NotImplementedError

    def sender(self, slot: int) -> Sender:
        """The sender of the datagram in a slot; it outlives the next `receive`."""
        raise NotImplementedError

    def host(self, sender: Sender) -> str:
        """The address alone, as text."""
        host: str = self.address(sender)[0]
        return host

    def address(self, sender: Sender) -> Any:
        """The address, as `socket.sendto` takes it."""
        raise NotImplementedError

    def ancillary(self, sender: Sender) -> list[tuple[int, int, bytes]]:
        """Ancillary data of `socket.sendmsg`: the reply leaves from the address that the query was sent to. Empty on a
        bound socket."""
        raise NotImplementedError

    def queue_reply(self, sender: Sender, wire: bytes) -> bool:
        """Queues a reply of at most REPLY_SIZE octets; true if it is the first since the last `flush`."""
        raise NotImplementedError

    def flush(self) -> None:
        """Sends the queued replies."""
        raise NotImplementedError


def destination_address(ancillary: Sequence[tuple[int, int, bytes]]) -> str:
    """The address that a datagram was sent to, by its packet information; empty without any."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""


def batch(sock: socket.socket, *, wildcard: bool, failed: Failed) -> Batch:
    """A batch for a socket that does not block; `wildcard` sockets have packet information switched on."""
    try:
        library = ctypes.PyDLL(None)
        return _SystemBatch(sock, library.recvmmsg, library.sendmmsg, wildcard=wildcard, failed=failed)
    except (OSError, AttributeError):
        return _PortableBatch(sock, wildcard=wildcard, failed=failed)


class _SystemBatch(Batch):
    """By recvmmsg(2) and sendmmsg(2). The kernel reads and writes buffers that live as long as this object."""

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
        """For each slot, the address of the sender, and the packet information."""
        self._in_vectors = self._vectors(self.data, RECEIVE_SIZE, RECEIVE_SIZE)
        self._out_vectors = self._vectors(self.replies, REPLY_SIZE, 0)
        self._in, self._out = self._headers(self._in_vectors, self._ends), self._headers(self._out_vectors, self._ends)
        self._in_at = ctypes.c_void_p(_address_of(self._in))
        self._out_at = _header_pointers(self._out)
        self._outbox: list[tuple[bytes, bytes]] = []
        """Queued replies: their senders, and their octets."""
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
        """Finds out why nothing was received; a datagram that has come by now stays for the next call."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._failed("receive", error)
        return 0

    def _clear_interfaces(self, count: int) -> None:
        """Lets the route choose the interface of each reply, except for link-local addresses, which need theirs."""
        if self._interfaces is not None:
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

    def _send_alone(self, slot: int) -> None:
        """Sends a reply that the kernel refused by Python's own call, which reports the error."""
        start = slot * REPLY_SIZE
        self._retry(self.replies[start : start + self.sizes[LAYOUT[slot].size]], self.sender(slot))

    def _retry(self, wire: bytes, sender: Sender) -> None:
        try:
            self._sock.sendmsg((wire,), self.ancillary(sender), 0, self.address(sender))
        except OSError as error:
            self._failed("send", error)

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
        if self._sock.fileno() != self._fd:  # closed meanwhile: its number may be another socket's by now
            for sender, wire in replies:
                self._retry(wire, sender)
            return
        for begin in range(0, len(replies), SLOTS):
            self._send_queued(replies[begin : begin + SLOTS])

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
    """By recvmsg and sendmsg, one datagram at a time, where the system has no calls for batches."""

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

    def send(self, count: int, *, whole: bool) -> None:  # noqa: ARG002 - each goes on its own in any case
        for slot in LAYOUT[:count]:
            size = self.sizes[slot.size]
            if size:
                address, ancillary = self._senders[slot.number]
                try:
                    self._sock.sendmsg((self.replies[slot.reply_at : slot.reply_at + size],), ancillary, 0, address)
                except OSError as error:
                    self._failed("send", error)

    def sender(self, slot: int) -> Sender:
        return self._senders[slot]

    def address(self, sender: Sender) -> Any:
        return sender[0]

    def ancillary(self, sender: Sender) -> list[tuple[int, int, bytes]]:
        ancillary: list[tuple[int, int, bytes]] = sender[1]
        return ancillary

    def queue_reply(self, sender: Sender, wire: bytes) -> bool:
        address, ancillary = sender
        try:
            self._sock.sendmsg((wire,), ancillary, 0, address)
        except OSError as error:
            self._failed("send", error)
        return False

    def flush(self) -> None:
        """Nothing: each reply was sent by itself."""


def _routed(item: tuple[int, int, bytes]) -> tuple[int, int, bytes] | None:
    """Packet information without its interface, except for link-local addresses; None for any other item."""
    level, kind, data = item
    if level == socket.IPPROTO_IP and kind == getattr(socket, "IP_PKTINFO", IP_PKTINFO):
        return level, kind, b"\0\0\0\0" + data[4:12]
    if level == socket.IPPROTO_IPV6 and kind == getattr(socket, "IPV6_PKTINFO", IPV6_PKTINFO):
        local = data[0] == _LINK_LOCAL[0] and data[1] & 0xC0 == _LINK_LOCAL[1]
        return level, kind, data if local else data[:16] + b"\0\0\0\0"
    return None


def _header_pointers(headers: bytearray) -> tuple[ctypes.c_void_p, ...]:
    """A pointer to each of the headers."""
    return tuple(ctypes.c_void_p(_address_of(headers) + n * ctypes.sizeof(_MMsgHdr)) for n in range(SLOTS))


def _address_of(buffer: bytearray | mmap.mmap) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
