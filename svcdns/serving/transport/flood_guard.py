"""Lets the kernel drop packets of the busiest clients when clients send more packets than the worker can answer.

This happens while the receive buffer of a UDP socket stays filled, or the worker drops many packets. A packet filter
drops a share of the busiest clients' packets (`source_filter`). For TCP, it drops the first packets of new connections.
See docs/reliability.md#overload.

Rules:

1. Without overload, the only work is to read the clock after each full batch of packets.
2. A backlog that shrinks by itself is no overload. The backlog at the begin of reading is no overload either.
3. While the buffer stays filled, each step lowers the kept share of the client with the most packets. A single client
   is not limited.
4. While the worker drops packets, the kept shares of their clients are lowered in proportion.
5. The number of clients in the filter is bounded.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Final, NamedTuple

from svcdns.serving.transport import source_filter

SO_MEMINFO: Final = 55
_USED_AT, _SIZE_AT, _DROPS_AT = 0, 1, 8
_TCP_INFO: Final = 11
_ACCEPTS_AT, _MOST_ACCEPTS_AT = 6, 7
"""tcpi_unacked and tcpi_sacked, which are the length of the accept queue and its maximum for a listening socket."""
STEP: Final = 0.01
"""The seconds between two looks at the buffer."""
STEPS: Final = 3
"""The number of looks at a filled buffer after which packets are dropped."""
FILLED: Final = 96 << 10
"""The octets of the receive buffer in use from which on the buffer counts as filled. A small packet takes 768 octets.

A buffer of less than four times this size counts as filled if a quarter of it is in use.
"""
SHORT: Final = 32 << 10
"""The octets of the receive buffer in use that the filter keeps to."""
GRACE: Final = 0.5
"""The seconds from the begin of reading for which a backlog is no overload, if queries waited in the socket by then.

They have come while no worker read the socket, for example because the only worker has died.
"""
MAX_SHED: Final = 50
"""The most packets that the worker drops from its queue in one step before the kernel drops them in its place."""
LOWER: Final = 0.75
MIN_FACTOR: Final = 0.1
"""The least factor by which one step lowers a share."""
RAISE: Final = 1.05
MIN_SHARE: Final = 0.01
BUSY: Final = 1.5
"""How many times the average packets of a client a client must have for its share to be lowered."""
MIN_COUNTED: Final = 8
"""The packets in the last steps below which the share of a client is not lowered."""
MAX_COUNTED: Final = 1024
"""The most clients whose packets are counted in one step."""


class Usage(NamedTuple):
    """The filled part of a buffer, its size, and the number of packets that the kernel has dropped."""

    used: int
    size: int
    drops: int


class ReceiveBuffer:
    """The receive buffer of a UDP socket, in octets."""

    filled, short = FILLED, SHORT

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        source_filter.detach(sock)  # a worker that ended may have left a filter

    def usage(self) -> Usage:
        """Returns the state of the buffer, or zeros if it is not known."""
        words = self._words(SO_MEMINFO, socket.SOL_SOCKET)
        return Usage(words[_USED_AT], words[_SIZE_AT], words[_DROPS_AT]) if len(words) > _DROPS_AT else Usage(0, 0, 0)

    def keep(self, shares: Mapping[bytes, float]) -> None:
        """Makes the kernel keep only a share of the packets of some clients. Raises OSError.

        `shares` has the share of each client, from 0 to 1.
        """
        source_filter.attach(self._sock, shares)

    def keep_all(self) -> None:
        """Makes the kernel keep all packets again."""
        source_filter.detach(self._sock)

    def _words(self, option: int, level: int) -> tuple[int, ...]:
        try:
            data = self._sock.getsockopt(level, option, 64)
        except OSError:
            return ()
        return struct.unpack(f"={len(data) // 4}I", data[: len(data) // 4 * 4])


class AcceptQueue(ReceiveBuffer):
    """The queue of connections that wait at a listening socket until they are accepted."""

    filled, short = 32, 8

    def usage(self) -> Usage:
        """Returns the state of the queue, or zeros if it is not known."""
        words = self._words(_TCP_INFO, socket.IPPROTO_TCP)
        if len(words) <= _MOST_ACCEPTS_AT:
            return Usage(0, 0, 0)
        return Usage(words[_ACCEPTS_AT], words[_MOST_ACCEPTS_AT], super().usage().drops)

    def keep(self, shares: Mapping[bytes, float]) -> None:
        """Makes the kernel keep only a share of the new connections of some clients. Raises OSError.

        `shares` has the share of each client, from 0 to 1.
        """
        source_filter.attach(self._sock, shares, new_connections=True)


class FloodGuard:
    """Limits the busiest clients of one socket while its buffer is filled. `active` is true during this time."""

    def __init__(self, buffer: ReceiveBuffer, dropped: Callable[[int], None]) -> None:
        """`dropped` is called with the number of packets that the kernel has dropped while the filter was active."""
        self._buffer, self._dropped = buffer, dropped
        self.active = False
        self._looked = 0.0
        self._counts: Counter[bytes] = Counter()
        self._earlier: Counter[bytes] = Counter()
        """The part of `_counts` that comes from earlier steps."""
        self._shed: Counter[bytes] = Counter()
        self._kept: dict[bytes, float] = {}
        self._waits = False
        """True if the last step has lowered shares because of dropped packets, which may still arrive in this step."""
        self._filled = self._before = self._drops = self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        used, _ = self._usage()
        if self._size and used >= self._enough:
            self._looked = perf_counter() + GRACE

    @property
    def kept(self) -> dict[bytes, float]:
        """Returns the share of packets that the kernel keeps, from 0 to 1, for each client in the filter."""
        return dict(self._kept)

    def look(self, now: float) -> None:
        """Starts to count packets by client if the receive buffer is filled, or if the worker has dropped many packets.

        Call it after a full batch of packets. `now` is the time on `perf_counter`.
        """
        if self.active or now < self._looked + STEP:
            return
        self._looked = now
        used, drops = self._usage()
        shed = self._take_shed()
        if used >= self._enough or shed.total() > MAX_SHED:
            self.active = True
            self._filled, self._before, self._drops = 1, used, drops
            self._timer = asyncio.get_running_loop().call_later(STEP, self._step)

    @property
    def _enough(self) -> int:
        """Returns the number of octets above which the receive buffer is regarded as filled."""
        return min(self._buffer.filled, self._size // 4)

    def note(self, clients: list[bytes]) -> None:
        """Counts one packet for each item of `clients`. Call it only while `active` is true."""
        counts = self._counts
        if len(counts) < MAX_COUNTED:
            counts.update(clients)

    def note_shed(self, clients: list[bytes]) -> None:
        """Counts one dropped packet for each item of `clients`. The worker has read and dropped these packets."""
        shed = self._shed
        if len(shed) < MAX_COUNTED:
            shed.update(clients)

    def _take_shed(self) -> Counter[bytes]:
        """Returns the number of packets that the worker has dropped since the last call, by client."""
        shed, self._shed = self._shed, Counter()
        return shed

    def stop(self) -> None:
        """Removes the packet filter from the socket, and stops watching the buffer."""
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def _step(self) -> None:
        used, drops = self._usage()
        if self._kept:
            self._dropped(max(0, drops - self._drops))
        self._drops = drops
        if self._adapted(used, self._take_shed()):
            self._earlier = Counter({client: count // 2 for client, count in self._counts.items() if count > 1})
            self._counts = self._earlier.copy()
            self._timer = asyncio.get_running_loop().call_later(STEP, self._step)
        else:
            self._end()

    def _adapted(self, used: int, shed: Counter[bytes]) -> bool:
        """Lowers or raises the kept shares. Returns False if the filter must be removed.

        `used` is the filled part of the buffer in octets. `shed` has the packets that the worker has dropped, by
        client.
        """
        if self._waits:
            self._waits = False
            return True
        many = shed.total() > MAX_SHED
        if not self._kept:
            if used < self._enough and not many:
                return False
            self._filled = self._filled + 1 if many or used > self._before * 0.9 else max(0, self._filled - 1)
            self._before = used
            return self._filled < STEPS or self._lowered(used, shed)
        if used > self._buffer.short or many:
            return self._lowered(used, shed)
        self._kept = {client: share * RAISE for client, share in self._kept.items() if share * RAISE < 1}
        return bool(self._kept) and self._apply()

    def _lowered(self, used: int, shed: Counter[bytes]) -> bool:
        """Lowers the kept shares of the busiest clients. Returns False if the kernel does not support filters."""
        counts, kept = self._counts, self._kept
        if shed.total() > MAX_SHED:
            for client, count in shed.items():
                if count >= MIN_COUNTED and (client in kept or len(kept) < source_filter.MAX_CLIENTS):
                    self._lower(client, 1 - count / max(count, counts[client] - self._earlier[client]))
                    self._waits = True
        if used > self._buffer.short and not self._waits:
            for client, count in counts.most_common(1):
                busy = used > self._size // 2 or count * len(counts) >= BUSY * counts.total()
                if client in kept or (busy and count >= MIN_COUNTED and len(kept) < source_filter.MAX_CLIENTS):
                    self._lower(client, LOWER)
        return not kept or self._apply()

    def _lower(self, client: bytes, factor: float) -> None:
        """Multiplies the kept share of one client by `factor`, or by MIN_FACTOR if `factor` is smaller."""
        self._kept[client] = max(MIN_SHARE, self._kept.get(client, 1.0) * max(factor, MIN_FACTOR))

    def _apply(self) -> bool:
        try:
            self._buffer.keep(self._kept)
        except OSError:
            return False
        return True

    def _end(self) -> None:
        self._buffer.keep_all()
        self._kept.clear()
        self._counts.clear()
        self._earlier.clear()
        self._shed.clear()
        self._waits = self.active = False
        self._timer = None

    def _usage(self) -> tuple[int, int]:
        """Returns the filled part of the buffer, and the number of packets that the kernel has dropped."""
        used, self._size, drops = self._buffer.usage()
        return used, drops
