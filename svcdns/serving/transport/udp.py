"""The hot loop: UDP packets in, compiled replies out.

Per packet that the answer table knows: one dictionary look-up on the bytes behind the id, and the reply copied into its place. Whatever
can be done once is done elsewhere: a batch is received and sent in one system call each (`datagrams`), hits are folded into the
counters once a second, the time is read once a batch, the duration of a batch is observed for all its hits. A batch is bounded, and so is
the time for packets that the table does not know, so that TCP, upstream replies, the feed and the timers get their turn.

Errors of the system calls never end a drain: they are counted by errno and named at most once a minute.
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
from time import perf_counter
from typing import Final

from svcdns.eventloop.clock import Clock
from svcdns.eventloop.loop import after_drains
from svcdns.plugin_api.query import Client
from svcdns.serving.fast_path import try_fast_path
from svcdns.serving.responder import Responder
from svcdns.serving.transport.udp_batch import LAYOUT, PLAIN_LAYOUT, REPLY_SIZE, SLOTS, Sender, Slot, asked_address, batch
from svcdns.telemetry.counters import Counters, Family, MetricKind

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
    uniform=True,
)
SLICE: Final = 0.00025
"""Seconds for which packets that are not compiled are answered before the socket is read again."""
TURN: Final = 0.002
"""Seconds of this after which others have their turn."""
MOST_WAITING: Final = 4 * SLOTS
"""Packets that may wait while the socket is read, and when the turn is over."""
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
    """Reads one socket. `drain` is called when it is readable.

    What is compiled is answered first, for a whole batch; the rest is put aside, and answered in slices of time between which the socket
    is read again, so that questions which cost much do not hold up those that cost nothing.
    """

    def __init__(self, sock: socket.socket, responder: Responder, errors: SocketErrors, *, wildcard: bool) -> None:
        """`wildcard` sockets reply from the address that was asked, by packet information (RFC 3542 §6.2)."""
        self.sock, self.responder, self.errors = sock, responder, errors
        self.family = 2 if sock.family == socket.AF_INET6 else 1
        self.local = sock.getsockname()[:2]
        self.batch = batch(sock, wildcard=wildcard, failed=errors.saw)
        self._misses: deque[tuple[bytes, Sender, float]] = deque()
        """Packets that wait, where they came from, and when they were read."""
        self._at_work = self._to_go_on = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def drain(self) -> int:
        """Answers one batch of packets; how many there were."""
        count = self._read()
        if self._misses:
            self._work()
        return count

    def _read(self) -> int:
        """Answers what is compiled of one batch, and puts the rest aside; how many packets there were."""
        count = self.batch.receive()
        if count:
            listener = self.responder.listener
            if listener.observed or listener.classes is not None:
                self._drain_in_full(count)
            else:
                self._drain_fast(count)
        return count

    def finish(self) -> None:
        """Answers what waits here; the socket is not read any more."""
        while self._misses:
            self._work(reading=False)

    def _work(self, *, reading: bool = True) -> None:
        """Answers what was put aside, for a turn's time or as long as there is too much of it; then others have theirs."""
        misses, now = self._misses, perf_counter()
        slice_ends, turn_ends = now + SLICE, now + TURN
        self._at_work = True
        try:
            while misses:
                self._miss(*misses.popleft())
                now = perf_counter()
                if now > slice_ends:
                    if now > turn_ends and len(misses) < MOST_WAITING:
                        break
                    if reading and len(misses) < MOST_WAITING:
                        self._read()
                    slice_ends = perf_counter() + SLICE
        finally:
            self._at_work = False
            self.batch.deliver()
        if misses and not self._to_go_on:
            self._to_go_on = True
            (self._loop or self._find_loop()).call_soon(self._go_on)

    def _go_on(self) -> None:
        self._to_go_on = False
        if self._misses:
            self._work()

    def _drain_fast(self, count: int) -> None:
        """The loop where every client gets the same, and nobody wants to see the queries."""
        started = perf_counter()
        table, batch = self.responder.table, self.batch
        data, lengths, replies, sizes, missed = batch.data, batch.lengths, batch.replies, batch.sizes, self._misses.append
        known, negative, touch, turn, now = table.young.get, self.responder.answer_negative, table.touched.append, table.turn, table.now()
        hits = missing = 0
        for number, at, key_at, length, reply_at, size in PLAIN_LAYOUT[:count]:
            key = data[key_at : at + lengths[length]]
            entry = known(key)
            if entry is None or entry.deadline <= now:
                wire = negative(key)
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
                touch(hit_counter)
            hit_counter.hits += 1
            reply = entry.wire
            wire = data[at:key_at] + (reply if reply is not None else turn(entry))
            octets = len(wire)
            if octets > REPLY_SIZE:
                missing += self._alone(LAYOUT[number], wire)
            else:
                replies[reply_at : reply_at + octets] = wire
                sizes[size] = octets
            hits += 1
        batch.send(count, whole=not missing)
        if hits:
            self.responder.durations.observe(perf_counter() - started, hits)

    def _drain_in_full(self, count: int) -> None:
        """The loop where somebody wants to see every query, or answers depend on who asks."""
        started = perf_counter()
        responder, batch = self.responder, self.batch
        table, now = responder.table, responder.table.now()
        missing = hits = 0
        for slot in LAYOUT[:count]:
            packet, sender = batch.data[slot.at : slot.at + batch.lengths[slot.length]], batch.sender(slot.number)
            client = self.client(sender)
            entry = table.find(responder.key(packet, client), now)
            if entry is None:
                self._misses.append((packet, sender, started))
                batch.sizes[slot.size] = 0
                missing += 1
                continue
            hits += 1
            wire = packet[:2] + table.use(entry)
            missing += self._place(slot, wire)
            if entry.seen is not None:
                responder.hit(entry, packet, client, len(wire), started)
        batch.send(count, whole=not missing)
        if hits:
            self.responder.durations.observe(perf_counter() - started, hits)

    def _miss(self, packet: bytes, sender: Sender, started: float) -> None:
        """A packet whose reply was not among the young ones when it was read."""
        responder, listener = self.responder, self.responder.listener
        if not listener.observed and listener.classes is None:
            table = responder.table
            entry = table.find(packet[2:], table.now())
            if entry is not None:
                self.post(sender, packet[:2] + table.use(entry))
                responder.durations.observe(perf_counter() - started, 1)
                return
            exchange = try_fast_path(packet, responder, started)
            if exchange is not None:
                exchange.leave(self, sender)
                return
        responder.answer(packet, self.client(sender), partial(self.post, sender), started)

    def host(self, sender: Sender) -> str:
        """The address that a datagram came from."""
        return self.batch.host(sender)

    def client(self, sender: Sender) -> Client:
        """Who sent a datagram."""
        address = self.batch.address(sender)
        local = asked_address(self.batch.ancillary(sender)) or self.local[0]
        return Client(address[0], address[1], local, self.local[1], "udp", self.family)

    def _place(self, slot: Slot, wire: bytes) -> bool:
        """Puts a reply into its slot; whether the slot stays empty, because there is none, or because it went out on its own."""
        octets = len(wire)
        if octets > REPLY_SIZE:
            return self._alone(slot, wire)
        self.batch.replies[slot.reply_at : slot.reply_at + octets] = wire
        self.batch.sizes[slot.size] = octets
        return not octets

    def _alone(self, slot: Slot, wire: bytes) -> bool:
        self.batch.sizes[slot.size] = 0
        self._send(wire, self.batch.sender(slot.number))
        return True

    def _send(self, wire: bytes, sender: Sender) -> None:
        """Sends one reply by itself."""
        try:
            self.sock.sendmsg((wire,), self.batch.ancillary(sender), 0, self.batch.address(sender))
        except OSError as error:
            self.errors.saw("send", error)

    def post(self, sender: Sender, wire: bytes) -> None:
        """Sends a reply together with others that come in this turn of the event loop; nothing if it is empty."""
        if len(wire) > REPLY_SIZE:
            self._send(wire, sender)
        elif wire and self.batch.post(sender, wire) and not self._at_work:
            after_drains(self._loop or self._find_loop(), self.batch.deliver)

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        """Looks for it once: up to Python 3.11 each look is a system call."""
        self._loop = asyncio.get_running_loop()
        return self._loop

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
