"""The loop that reads UDP packets and sends encoded replies: the most performance-critical code of the server.

The loop finds a stored reply with one dictionary look-up, in which the key is the packet without its message id. All
other work is done once for many packets:

- A batch of packets is received, and its replies are sent, in one system call each (`udp_batch`).
- The metrics are updated once a second.
- The clock is read once a batch.
- A packet that arrives alone needs no loop (`_answer_one`).
- More than MAX_WAITING packets without a stored reply wait in a queue by client (docs/reliability.md#overload).
- Errors of system calls are counted by errno, and logged at most once a minute for each errno.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections import deque
from functools import partial
from math import inf
from time import monotonic, perf_counter
from typing import Final

from svcdns.eventloop.clock import Clock
from svcdns.eventloop.fair_queue import FairQueue
from svcdns.eventloop.loop import after_drains
from svcdns.log_line import LogLine
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.settings import ProxyProtocol
from svcdns.serving.fast_path import try_fast_path
from svcdns.serving.metrics import SHED, ShedReason
from svcdns.serving.responder import Responder
from svcdns.serving.sampling import SampledPacket
from svcdns.serving.transport.connections import client_key
from svcdns.serving.transport.flood_guard import SO_MEMINFO, FloodGuard, ReceiveBuffer
from svcdns.serving.transport.proxied import DatagramHeaders, Proxied
from svcdns.serving.transport.udp_batch import (
    LAYOUT,
    PLAIN_LAYOUT,
    REPLY_SIZE,
    SLOTS,
    Sender,
    Slot,
    batch,
    destination_address,
)
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.wire.hop_options import may_have_options

_DROPS_AT: Final = 8
_NO_RECORDS: Final = b"\0\0"
"""The number of records in the additional section of a query without EDNS."""
_FIRST: Final = LAYOUT[0]

SOCKET_ERRORS: Final = Family(
    "svcdns_socket_errors_total",
    MetricKind.COUNTER,
    "Failed receives, sends and accepts on listening sockets.",
    ("server", "operation", "errno"),
)
SOCKET_DROPS: Final = Family(
    "svcdns_socket_dropped_packets_total",
    MetricKind.COUNTER,
    "Packets that the kernel dropped because a listening socket's buffer was full.",
    ("server", "address", "slot"),
    uniform=True,
)
SLICE: Final = 0.00025
"""The seconds for which packets without a stored reply are answered before the socket is read again."""
MAX_WORK: Final = 0.001
"""The seconds for which packets without a stored reply are answered before other work of the event loop runs."""
OVERLOAD_WORK: Final = 0.00025
"""As MAX_WORK, while packets wait in the queue by client.

It is shorter, because a new TCP or TLS connection needs several iterations of the event loop.
"""
MAX_WAITING: Final = 4 * SLOTS
"""If more packets than this wait for a reply, they wait in a queue by client."""
MAX_QUEUED: Final = 4096
"""The most packets that wait in the queue by client. A worker that starts or hangs needs room for its backlog."""
MAX_READS: Final = 4
"""The most batches that are read between two slices of time."""
LOG_INTERVAL: Final = 60.0
"""The seconds between two log lines about the same errno."""

log = logging.getLogger("svcdns")


class SocketErrors:
    """Counts failed system calls by errno. Logs each errno at most once a minute."""

    def __init__(self, counters: Counters, server: str, clock: Clock) -> None:
        """`server` is the metrics label of the sockets' listener."""
        self.counters, self.server, self._clock = counters, server, clock
        self._logged: dict[int, float] = {}

    def count(self, operation: str, error: OSError) -> None:
        """Counts one failed system call. `operation` is `receive`, `send` or `accept`."""
        number = error.errno or 0
        name = errno.errorcode.get(number, str(number))
        self.counters.count(SOCKET_ERRORS, self.server, operation, name)
        now = self._clock()
        if now - self._logged.get(number, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged[number] = now
            log.warning(
                LogLine("a system call failed", operation=operation, server=self.server, error=os.strerror(number))
            )


class UdpReader:
    """Reads one UDP socket and answers its packets. The event loop calls `drain` when the socket is readable.

    Packets of a batch that have a stored reply are answered first. The other packets are answered in time slices, and
    the socket is read again between two slices.
    """

    def __init__(self, sock: socket.socket, responder: Responder, errors: SocketErrors, *, wildcard: bool) -> None:
        """`wildcard` is True for a socket of all addresses.

        Replies from such a socket have the source address to which the query was sent (packet information, RFC 3542
        §6.2).
        """
        self.sock, self.responder, self.errors = sock, responder, errors
        self.family = 2 if sock.family == socket.AF_INET6 else 1
        self.local = sock.getsockname()[:2]
        self.batch = batch(sock, wildcard=wildcard, failed=errors.count)
        self._misses: deque[tuple[bytes, Sender, float]] = deque()
        """The packets that wait, each with its sender and the time when it was read."""
        self._fair: FairQueue[tuple[bytes, Sender, float]] = FairQueue(MAX_QUEUED)
        """The packets that wait while there are too many of them. They come from `_misses`."""
        self._guard = FloodGuard(ReceiveBuffer(sock), partial(self._shed, ShedReason.FLOOD))
        self._headers: DatagramHeaders | None = None
        """Reads the headers of packets from proxies; None without the PROXY protocol."""
        self._working = self._work_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """Returns the number of packets that were read and are not answered yet."""
        return len(self._misses) + len(self._fair)

    def drain(self) -> int:
        """Receives one batch of packets, and answers it as far as possible. Returns the number of packets."""
        count = self._read()
        if count == SLOTS and self.responder.listener.proxy is None:  # a proxy has the packets of many clients
            self._guard.look(perf_counter())
        if self._misses or self._fair.turns:
            if self._fair.turns and self._work_scheduled:
                self._sort()
            else:
                self._work()
        return count

    def _read(self) -> int:
        """Receives one batch, and answers the packets that have a stored reply. The other packets wait.

        Returns the number of packets that were received.
        """
        count = self.batch.receive()
        if count:
            if self._guard.active:
                self._guard.note(self.batch.client_keys(count))
            if not self.responder.is_plain:
                self._drain_special(count)
            elif count > 1 or not self._answer_one():
                self._drain_fast(count)
        return count

    def _drain_special(self, count: int) -> None:
        """Answers a batch of packets for a responder that is not `is_plain`."""
        responder = self.responder
        one_by_one = not responder.uniform
        if responder.sampling is not None and not one_by_one:
            one_by_one = not responder.sampling.skip(count)
        if one_by_one:
            if responder.listener.proxy is None:
                self._drain_in_full(count)
            else:
                self._drain_proxied(count, responder.listener.proxy)
        elif responder.observes_packets:
            self._drain_observed(count)
        elif count > 1 or not self._answer_one():
            self._drain_fast(count)

    def finish(self) -> None:
        """Answers all waiting packets without reading the socket again, and removes the packet filter."""
        self._guard.stop()
        while self._misses or self._fair.turns:
            self._work(reading=False)

    def _work(self, *, reading: bool = True) -> None:
        """Answers waiting packets for at most MAX_WORK seconds. Schedules another call if packets are left.

        If `reading` is true, also reads the socket between two time slices.
        """
        misses, turns, now = self._misses, self._fair.turns, perf_counter()
        work = OVERLOAD_WORK if turns else MAX_WORK
        slice_ends, work_ends = now + SLICE, now + work  # as `TimeSlice` does, but without a call for each packet
        self._working = True
        try:
            while misses or turns:
                if turns or len(misses) > MAX_WAITING:
                    now = self._next_in_turn(now)
                else:
                    self._miss(*misses.popleft())
                    now = perf_counter()
                if now > slice_ends:
                    if now > work_ends:
                        break
                    if turns:
                        self.batch.flush()
                    if reading:
                        self._read_on()
                    slice_ends = perf_counter() + SLICE
        finally:
            self._working = False
            self.batch.flush()
        if (misses or turns) and not self._work_scheduled:
            self._work_scheduled = True
            (self._loop or self._find_loop()).call_soon(self._resume)

    def _read_on(self) -> None:
        """Reads the socket until it is empty, or until MAX_READS batches were read.

        If too many packets wait, drops packets of the clients that have the most.
        """
        for _ in range(MAX_READS):
            full = self._read() == SLOTS
            if self._fair.turns or len(self._misses) > MAX_WAITING:
                self._sort()
            if not full:
                break

    def _next_in_turn(self, now: float) -> float:
        """Answers one packet of the client whose turn it is, and charges that client with the time.

        Returns the time on `perf_counter` afterwards. `now` is the time on `perf_counter` at the call.
        """
        if self._misses:
            self._sort()
        self._miss(*self._fair.pop())
        ended = perf_counter()
        self._fair.charge(ended - now)
        return ended

    def _sort(self) -> None:
        """Moves all waiting packets into the queue in which clients take turns.

        If the queue is full, drops and counts packets of the clients that have the most.
        """
        misses, add, key_of = self._misses, self._fair.add, self._client_key
        shed: list[bytes] = []
        while misses:
            item = misses.popleft()
            client = add(key_of(item[1]), item)
            if client is not None:
                shed.append(client)
        if shed:
            self._shed(ShedReason.QUEUE, len(shed))
            self._guard.note_shed(shed)

    def _shed(self, reason: ShedReason, packets: int) -> None:
        self.errors.counters.count(SHED, self.errors.server, reason, amount=packets)

    def _resume(self) -> None:
        self._work_scheduled = False
        if self._misses or self._fair.turns:
            self._work()

    def _drain_fast(self, count: int) -> None:
        """Answers a batch of packets for a responder that gives all clients the same replies.

        The code of `Responder.lookup` is repeated here, because a call for each packet costs too much.
        """
        started = perf_counter()
        table, batch = self.responder.table, self.batch
        data, lengths, replies, sizes, missed = (
            batch.data,
            batch.lengths,
            batch.replies,
            batch.sizes,
            self._misses.append,
        )
        find, lookup_new, now = table.current.get, self.responder.lookup_new, table.now()
        dirty, next_rotation = table.dirty.append, table.next_rotation
        hits = missing = 0
        for number, at, key_at, length, reply_at, size in PLAIN_LAYOUT[:count]:
            key = data[key_at : at + lengths[length]]
            entry = find(key)
            if entry is None or entry.deadline <= now:
                wire = lookup_new(key)
                if wire:
                    octets = len(wire) + 2
                    replies[reply_at : reply_at + octets] = data[at:key_at] + wire
                    sizes[size] = octets
                    hits += 1
                    continue
                missed((data[at : at + lengths[length]], batch.sender(number), started))
                sizes[size] = 0
                missing += 1
                continue
            hit_counter = entry.hit_counter
            if hit_counter.hits == hit_counter.flushed:
                dirty(hit_counter)
            hit_counter.hits += 1
            reply = entry.wire
            wire = data[at:key_at] + (reply if reply is not None else next_rotation(entry))
            octets = len(wire)
            if octets > REPLY_SIZE:
                missing += self._send_alone(LAYOUT[number], wire)
            else:
                replies[reply_at : reply_at + octets] = wire
                sizes[size] = octets
            hits += 1
        batch.send(count, whole=not missing)
        if hits:
            self.responder.durations.observe(perf_counter() - started, hits)

    def _answer_one(self) -> bool:
        """Answers a batch of one packet if the answer table has the reply, and returns True. Otherwise returns False.

        Without the loop of `_drain_fast`, a single packet takes less time.
        """
        started = perf_counter()
        responder, batch = self.responder, self.batch
        table, data = responder.table, batch.data
        entry = table.current.get(data[2 : batch.lengths[_FIRST.length]])
        if entry is None or (entry.deadline != inf and entry.deadline <= table.now()):
            return False
        hit_counter = entry.hit_counter
        if hit_counter.hits == hit_counter.flushed:
            table.dirty.append(hit_counter)
        hit_counter.hits += 1
        reply = entry.wire
        wire = data[:2] + (reply if reply is not None else table.next_rotation(entry))
        octets = len(wire)
        if octets > REPLY_SIZE:
            self._send_alone(_FIRST, wire)
        else:
            batch.replies[:octets] = wire
            batch.send_first(octets)
        responder.durations.observe(perf_counter() - started, 1)
        return True

    def _drain_observed(self, count: int) -> None:
        """Answers a batch of packets as `_drain_fast`, and passes each packet and its reply to the packet observers."""
        started = perf_counter()
        responder, batch = self.responder, self.batch
        answered: list[tuple[bytes, bytes, Sender]] = []
        missing = 0
        for slot in LAYOUT[:count]:
            packet, sender = batch.data[slot.at : slot.at + batch.lengths[slot.length]], batch.sender(slot.number)
            wire = responder.lookup_unobserved(packet, started)
            if wire:
                missing += self._place(slot, wire)
                answered.append((packet, wire, sender))
            else:
                self._misses.append((packet, sender, started))
                batch.sizes[slot.size] = 0
                missing += 1
        batch.send(count, whole=not missing)
        seconds = perf_counter() - started
        for packet, wire, sender in answered:
            responder.observe_packet(packet, wire, self.client(sender), seconds)

    def _drain_in_full(self, count: int) -> None:
        """Answers a batch of packets for a responder that may give different clients different replies."""
        started = perf_counter()
        responder, batch = self.responder, self.batch
        lookup = responder.lookup_limited if responder.limited else responder.lookup
        add = self._misses.append if responder.sampling is None else self._add_marked
        missing = 0
        for slot in LAYOUT[:count]:
            packet, sender = batch.data[slot.at : slot.at + batch.lengths[slot.length]], batch.sender(slot.number)
            wire = lookup(packet, self.client(sender), started)
            if wire:
                missing += self._place(slot, wire)
            elif wire is None:
                batch.sizes[slot.size] = 0
                missing += 1
            else:
                add((packet, sender, started))
                batch.sizes[slot.size] = 0
                missing += 1
        batch.send(count, whole=not missing)

    def _drain_proxied(self, count: int, protocol: ProxyProtocol) -> None:
        """Answers a batch of packets with headers of the PROXY protocol."""
        started = perf_counter()
        responder, batch = self.responder, self.batch
        headers = self._headers
        if headers is None or headers.protocol != protocol:
            headers = self._headers = DatagramHeaders(protocol, monotonic)
        lookup = responder.lookup_limited if responder.limited else responder.lookup
        add = self._misses.append if responder.sampling is None else self._add_marked
        for slot in LAYOUT[:count]:
            batch.sizes[slot.size] = 0
            packet, sender = batch.data[slot.at : slot.at + batch.lengths[slot.length]], batch.sender(slot.number)
            found = headers.read(packet, self.client(sender))
            if found is None:
                continue
            packet, client = found
            wire = lookup(packet, client, started)
            if wire:
                self._place(slot, wire)
            elif wire is not None:
                add((packet, Proxied(sender, client), started))
        batch.send(count, whole=False)

    def _add_marked(self, item: tuple[bytes, Sender, float]) -> None:
        """Adds a packet to those that wait. `item` has the packet that was counted last."""
        packet, sender, started = item
        assert self.responder.sampling is not None
        self._misses.append((self.responder.sampling.marked(packet), sender, started))

    def _client_key(self, sender: Sender) -> bytes:
        if type(sender) is Proxied:
            return client_key(sender.client.address)
        return self.batch.client_key(sender)

    def _miss(self, packet: bytes, sender: Sender, started: float) -> None:
        """Answers a packet that had no entry in the table's current generation when it was read."""
        responder = self.responder
        if type(packet) is SampledPacket:
            packet.sampler.chosen = True
        elif responder.uniform:
            table = responder.table
            stored = table.previous or packet[2:] in table.current
            wire = responder.lookup_entry(packet, None, started) if stored else b""
            if wire:
                self.queue_reply(sender, wire)
                if responder.observes_packets:
                    responder.observe_packet(packet, wire, self.client(sender), perf_counter() - started)
                return
            if packet[10:12] != _NO_RECORDS and may_have_options(packet):
                wire = responder.lookup_stripped(packet, self.client(sender), started)
                if wire:
                    self.queue_reply(sender, wire)
                    return
            exchange = try_fast_path(packet, responder, started)
            if exchange is not None:
                exchange.send(self, sender)
                return
        responder.answer(packet, self.client(sender), partial(self.queue_reply, sender), started)

    def host(self, sender: Sender) -> str:
        """Returns the address of the client, as text."""
        return sender.client.address if type(sender) is Proxied else self.batch.host(sender)

    def client(self, sender: Sender) -> Client:
        """Returns the client that sent a datagram."""
        if type(sender) is Proxied:
            return sender.client
        address = self.batch.address(sender)
        local = destination_address(self.batch.ancillary(sender)) or self.local[0]
        return Client(address[0], address[1], local, self.local[1], "udp", self.family)

    def _place(self, slot: Slot, wire: bytes) -> bool:
        """Writes a reply into its slot of the batch, and returns False.

        If the reply is too large for a slot, sends it in its own system call, and returns True.
        """
        octets = len(wire)
        if octets > REPLY_SIZE:
            return self._send_alone(slot, wire)
        self.batch.replies[slot.reply_at : slot.reply_at + octets] = wire
        self.batch.sizes[slot.size] = octets
        return False

    def _send_alone(self, slot: Slot, wire: bytes) -> bool:
        self.batch.sizes[slot.size] = 0
        self._send(wire, self.batch.sender(slot.number))
        return True

    def _send(self, wire: bytes, sender: Sender) -> None:
        """Sends one reply in its own system call."""
        try:
            self.sock.sendmsg((wire,), self.batch.ancillary(sender), 0, self.batch.address(sender))
        except OSError as error:
            self.batch.lost(error, wire, sender)

    def queue_reply(self, sender: Sender, wire: bytes) -> None:
        """Queues a reply. The queued replies are sent together before the event loop waits again.

        Does nothing if `wire` is empty.
        """
        if type(sender) is Proxied:
            sender = sender.sender
        if len(wire) > REPLY_SIZE:
            self._send(wire, sender)
        elif wire and self.batch.queue_reply(sender, wire) and not self._working:
            after_drains(self._loop or self._find_loop(), self.batch.flush)

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        """Returns the running event loop, and remembers it.

        Up to Python 3.11, each look-up of the loop is a system call.
        """
        self._loop = asyncio.get_running_loop()
        return self._loop

    def has_packet(self) -> bool:
        """Returns True if a packet waits in the socket."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        return True

    def drops(self) -> int:
        """Returns the number of packets that the kernel has dropped at this socket, or 0 if it is not known."""
        try:
            data = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64)
        except OSError:
            return 0
        return int(struct.unpack_from("=I", data, 4 * _DROPS_AT)[0]) if len(data) > 4 * _DROPS_AT else 0
