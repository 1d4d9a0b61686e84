"""Readers of UDP sockets that write some queries to a ring of samples (plugin *traffic*, docs/plugins/traffic.md).

Only listeners with *traffic* import this module. A reader decides once a batch whether the batch has a query to sample,
so other queries cost nothing more. A worker takes about RATE samples a second, and every query if there are fewer.
"""

from __future__ import annotations

import socket
from random import Random
from typing import Final

from svcdns.eventloop.clock import Clock
from svcdns.serving.transport.shedding import SheddingReader
from svcdns.serving.transport.udp import UdpReader
from svcdns.serving.transport.udp_batch import LAYOUT, Sender
from svcdns.telemetry.query_samples import UNKNOWN, Ring

RATE: Final = 30
"""The samples that each worker takes in a second. A ring then has the samples of the last 68 seconds."""
SMOOTHING: Final = 0.9
"""The weight of the earlier estimate when a sample updates the estimated rate of queries."""
MAX_GAP: Final = 1 << 20
"""The most queries between two samples."""
MAX_AWAITED: Final = 64
"""The most sampled queries whose reply is not known yet."""


class Sampler:
    """Decides which queries of a worker are sampled, and writes them to its ring.

    The number of queries between two samples is random, so that no regular pattern of queries is preferred.
    """

    __slots__ = ("_clock", "_draw", "_gap", "_last", "_queries", "_seconds", "left", "ring")

    def __init__(self, ring: Ring, clock: Clock) -> None:
        """`clock` returns seconds on CLOCK_MONOTONIC."""
        self.ring, self._clock = ring, clock
        self.left = 0
        """The queries before the next sample. Readers subtract each batch; a negative number means that the batch has
        the query to sample.
        """
        self._draw = Random().random
        self._gap = 1
        self._queries, self._seconds = 1.0, 1 / RATE
        self._last = clock()

    def write(self, rcode: int, client: bytes, key: bytes, *, is_local: bool) -> int:
        """Writes the query to sample, and chooses the next one. Returns the number of the sample."""
        now = self._clock()
        number = self.ring.write(now, self._gap, rcode, client, key, is_local=is_local)
        self._queries = SMOOTHING * self._queries + self._gap
        self._seconds = SMOOTHING * self._seconds + now - self._last
        self._last = now
        self._choose(self._queries / (RATE * max(self._seconds, 1e-6)))
        return number

    def tick(self) -> None:
        """Samples more of the queries if there was no sample for a second. Called once a second."""
        waited = self._clock() - self._last
        if self._gap > 1 and waited > 1.0:
            passed = self._gap - 1 - self.left
            self.left = -1
            self._choose(max(1.0, passed / (RATE * waited)))
            self._gap += passed  # the next sample stands for these queries too

    def _choose(self, mean: float) -> None:
        """Chooses the number of queries until the next sample. The result is `mean` on average, and at least 1."""
        self._gap = max(1, min(MAX_GAP, int(mean * (0.5 + self._draw()) + 0.5)))
        self.left += self._gap


class SampledReader(UdpReader):
    """A UDP reader that samples queries. Call `use` before the first batch."""

    _sampler: Sampler

    def use(self, sampler: Sampler) -> None:
        """Sets the sampler, which all readers of a worker share."""
        self._sampler = sampler
        self._awaited: dict[bytes, tuple[int, Sender]] = {}
        """By message id, for queries whose reply comes later: the number of the sample, and the sender."""
        read = super()._read

        def read_and_sample() -> int:
            count = read()
            sampler.left -= count
            if sampler.left < 0:
                self._sample(count)
            return count

        # an attribute: a method that calls super() would take twice as long for each batch
        self._read = read_and_sample  # type: ignore[method-assign]

    def _sample(self, count: int) -> None:
        """Writes samples of the batch of `count` packets that was read last."""
        sampler, batch = self._sampler, self.batch
        while sampler.left < 0:
            slot = LAYOUT[count + sampler.left]
            size, sender = batch.sizes[slot.size], batch.sender(slot.number)
            rcode = batch.replies[slot.reply_at + 3] & 15 if size else UNKNOWN
            client = socket.inet_pton(self.sock.family, batch.host(sender).partition("%")[0])
            key = batch.data[slot.key_at : slot.at + batch.lengths[slot.length]]
            entry = self.responder.table.current.get(key)
            number = sampler.write(rcode, client, key, is_local=entry is not None and entry.is_local)
            if not size:
                if len(self._awaited) >= MAX_AWAITED:
                    self._awaited.clear()
                self._awaited[batch.data[slot.at : slot.key_at]] = number, sender

    def queue_reply(self, sender: Sender, wire: bytes) -> None:
        """Queues a reply, as `UdpReader` does. If the query was sampled, notes the rcode."""
        if self._awaited and wire:
            number, asking = self._awaited.get(wire[:2], (0, None))
            if asking == sender:
                del self._awaited[wire[:2]]
                self._sampler.ring.set_rcode(number, wire[3] & 15)
        super().queue_reply(sender, wire)


class SampledSheddingReader(SampledReader, SheddingReader):
    """A reader for listeners that have both plugins, *traffic* and *shed*."""
