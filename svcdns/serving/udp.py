"""The hot loop: UDP packets in, compiled replies out.

Per packet that the answer table knows: one receive, one dictionary look-up on the bytes behind the id, one send. Whatever can be
done once is done elsewhere: hits are folded into the counters once a second, the time is read once a batch, the duration of a batch
is observed for all its hits. A batch is bounded, so that TCP, upstream replies, the feed and the timers get their turn.

Errors of the system calls never end a drain: they are counted by errno and named at most once a minute.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from bisect import bisect_left
from time import perf_counter
from typing import Any, Final

from svcdns.chain.query import Client
from svcdns.serving.accounting import DURATIONS
from svcdns.serving.compiling import Desk, Send
from svcdns.telemetry.clock import Clock
from svcdns.telemetry.counters import Counters, Family, MetricKind

RECEIVE_SIZE: Final = 512
"""Octets taken of a request; the rest of a longer one is cut off, as CoreDNS does (spec K25)."""
BATCH: Final = 64
"""Packets of one socket handled before the loop looks elsewhere."""

IP_PKTINFO: Final = 8
IPV6_PKTINFO: Final = 50
_IN_PKTINFO: Final = struct.Struct("=i4s4s")
_IN6_PKTINFO: Final = struct.Struct("=16si")
_ANCILLARY: Final = socket.CMSG_SPACE(20)
SO_MEMINFO: Final = 55
_DROPS_AT: Final = 8

SOCKET_ERRORS: Final = Family(
    "svcdns_socket_errors_total", MetricKind.COUNTER, "Failed receives and sends on listening sockets.", ("server", "operation", "errno")
)
SOCKET_DROPS: Final = Family(
    "svcdns_socket_dropped_packets_total",
    MetricKind.COUNTER,
    "Packets that the kernel dropped because a listening socket's buffer was full.",
    ("server", "address", "slot"),
)
SILENCE: Final = 60.0
"""Seconds between two log lines about the same errno."""

log = logging.getLogger("svcdns")


class SocketErrors:
    """Counts failed system calls by errno, and logs each errno at most once a minute."""

    def __init__(self, counters: Counters, server: str, clock: Clock) -> None:
        """`server` is the label of the listener that the sockets belong to."""
        self._counters, self._server, self._clock = counters, server, clock
        self._logged: dict[int, float] = {}

    def saw(self, operation: str, error: OSError) -> None:
        """One call failed; `operation` is `receive` or `send`."""
        number = error.errno or 0
        name = errno.errorcode.get(number, str(number))
        self._counters.count(SOCKET_ERRORS, self._server, operation, name)
        now = self._clock()
        if now - self._logged.get(number, -SILENCE) >= SILENCE:
            self._logged[number] = now
            log.warning("%s on %s failed: %s", operation, self._server, os.strerror(number))


class UdpReader:
    """Reads one socket. `drain` is called when it is readable."""

    def __init__(self, sock: socket.socket, desk: Desk, errors: SocketErrors, *, wildcard: bool) -> None:
        """`wildcard` sockets reply from the address that was asked, by packet information (RFC 3542 §6.2)."""
        self.sock, self.desk, self.errors = sock, desk, errors
        self.family = 2 if sock.family == socket.AF_INET6 else 1
        self.local = sock.getsockname()[:2]
        self.durations = [0] * (len(DURATIONS) + 1)
        self.duration_sum = 0.0
        self._wildcard = wildcard

    def drain(self) -> None:
        """Answers up to BATCH packets."""
        if self._wildcard or self.desk.listener.observed:
            self._drain_in_full()
        else:
            self._drain_fast()

    def _drain_fast(self) -> None:
        """The loop for sockets bound to one address in blocks without observers."""
        started = perf_counter()
        sock, table = self.sock, self.desk.table
        receive, send, young, touch = sock.recvfrom, sock.sendto, table.young, table.touched.append
        now = table.now()
        hits = 0
        for _ in range(BATCH):
            try:
                packet, address = receive(RECEIVE_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                self.errors.saw("receive", error)
                break
            entry = young.get(packet[2:])
            if entry is None or entry.deadline <= now:
                self._miss(packet, address, None, started)
                young = table.young
                continue
            number = entry.hits
            if number == entry.folded:
                touch(entry)
            entry.hits = number + 1
            wires = entry.wires
            try:
                send(packet[:2] + wires[number % len(wires)], address)
            except OSError as error:
                self.errors.saw("send", error)
            hits += 1
        if hits:
            self._observe(perf_counter() - started, hits)

    def _drain_in_full(self) -> None:
        """The loop where the reply's source address matters, or somebody wants to see every query."""
        started = perf_counter()
        desk = self.desk
        table, observed = desk.table, desk.listener.observed
        receive = self.sock.recvmsg
        now = table.now()
        hits = 0
        for _ in range(BATCH):
            try:
                packet, ancillary, _, address = receive(RECEIVE_SIZE, _ANCILLARY)
            except BlockingIOError:
                break
            except OSError as error:
                self.errors.saw("receive", error)
                break
            entry = table.young.get(packet[2:])
            if entry is None or entry.deadline <= now:
                self._miss(packet, address, ancillary, started)
                continue
            number = entry.hits
            if number == entry.folded:
                table.touched.append(entry)
            entry.hits = number + 1
            wire = entry.wires[number % len(entry.wires)]
            self._send(packet[:2] + wire, address, ancillary)
            hits += 1
            if observed:
                desk.hit(entry, packet, self._client(address, ancillary), len(wire) + 2, started)
        if hits:
            self._observe(perf_counter() - started, hits)

    def _miss(self, packet: bytes, address: Any, ancillary: Any, started: float) -> None:
        entry = self.desk.table.find(packet[2:], self.desk.table.now())
        if entry is not None:
            if entry.hits == entry.folded:
                self.desk.table.touched.append(entry)
            entry.hits += 1
            wire = packet[:2] + entry.wires[entry.hits % len(entry.wires)]
            self._send(wire, address, ancillary)
            client = self._client(address, ancillary)
            self.desk.hit(entry, packet, client, len(wire), started)
            self._observe(perf_counter() - started, 1)
            return
        self.desk.answer(packet, self._client(address, ancillary), self._sender(address, ancillary), perf_counter())

    def _client(self, address: Any, ancillary: Any) -> Client:
        local = _asked_address(ancillary) or self.local[0]
        return Client(address[0], address[1], local, self.local[1], "udp", self.family)

    def _sender(self, address: Any, ancillary: Any) -> Send:
        def send(wire: bytes) -> None:
            self._send(wire, address, ancillary)

        return send

    def _send(self, wire: bytes, address: Any, ancillary: Any) -> None:
        if not wire:
            return
        try:
            if ancillary:
                self.sock.sendmsg((wire,), _from_asked(ancillary), 0, address)
            else:
                self.sock.sendto(wire, address)
        except OSError as error:
            self.errors.saw("send", error)

    def _observe(self, seconds: float, hits: int) -> None:
        self.durations[bisect_left(DURATIONS, seconds)] += hits
        self.duration_sum += seconds * hits

    def waiting(self) -> bool:
        """Whether a packet waits in the socket."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        return True

    def drops(self) -> int:
        """Packets that the kernel has dropped at this socket so far; 0 where the kernel does not say."""
        try:
            data = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64)
        except OSError:
            return 0
        return int(struct.unpack_from("=I", data, 4 * _DROPS_AT)[0]) if len(data) > 4 * _DROPS_AT else 0


def _asked_address(ancillary: Any) -> str:
    """The address that a datagram was sent to, as its packet information says."""
    for level, kind, data in ancillary or ():
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""


def _from_asked(ancillary: Any) -> list[tuple[int, int, bytes]]:
    """The packet information that makes a reply leave from the address that was asked; the route picks the interface."""
    out = []
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, local, asked = _IN_PKTINFO.unpack_from(data)
            out.append((level, kind, _IN_PKTINFO.pack(0, local if asked[0] >= 224 else asked, asked)))
        elif level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
            asked, interface = _IN6_PKTINFO.unpack_from(data)
            link_local = asked[0] == 0xFE and asked[1] & 0xC0 == 0x80
            out.append((level, kind, _IN6_PKTINFO.pack(asked, interface if link_local else 0)))
    return out
