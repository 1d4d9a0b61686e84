"""Samples of queries in shared memory: which names clients query, and how these queries end.

A worker writes samples to its ring, and control reads the rings of all workers. The newest sample replaces the oldest
one. So the memory is fixed, and the samples stay when a worker ends. All numbers have the order of this machine:

    0    u64  samples written so far
    8    u64  samples that control has added to the metrics
    256       samples of RECORD_SIZE octets, CAPACITY of them

The weight of a sample is the number of queries that it stands for. The estimate for a name is the sum of the weights of
its samples. If a name has n samples, the true number is within 2 / sqrt(n) of the estimate in 95 of 100 cases.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from svcdns.process.sample_memory import RING_SIZE

RECORD_SIZE: Final = 256
CAPACITY: Final = RING_SIZE // RECORD_SIZE - 1
UNKNOWN: Final = 255
"""The rcode of a query whose reply was not seen."""
NO_CLIENT: Final = {1: bytes(4), 2: bytes(16)}
"""The client of a query that the accelerator answered, which sees no clients: the unspecified address of a family.

The key is 1 for IPv4 and 2 for IPv6.
"""
NO_CLIENT_TEXTS: Final = frozenset(("0.0.0.0", "::"))
"""The same as text, for example in `Sample.client`."""
_RECORD: Final = struct.Struct("=dfBBH16s224s")
_RCODE_AT: Final = 12
_LOCAL: Final = 0x80
KEY_SIZE: Final = 224
"""The octets of a query that a sample holds. The rest of a longer query is left out."""


class Sample(NamedTuple):
    """A sampled query.

    `at` is the time in seconds on CLOCK_MONOTONIC. `weight` is the number of queries that the sample stands for. `key`
    is the query without its message id, cut off after KEY_SIZE octets; `octets` is its length before that. `client` is
    the address as text. `is_local` is true if the reply was stored, and only data of this server decide it.
    """

    at: float
    weight: float
    rcode: int
    client: str
    key: bytes
    octets: int
    is_local: bool

    @property
    def is_whole(self) -> bool:
        """Returns True if `key` is the whole query."""
        return self.octets == len(self.key)


class Ring:
    """The samples of one worker."""

    def __init__(self, memory: memoryview) -> None:
        """`memory` has RING_SIZE octets."""
        self._memory = memory
        self._numbers = memory[:16].cast("Q")

    @property
    def written(self) -> int:
        """Returns the number of samples that have been written."""
        return self._numbers[0]

    @property
    def counted(self) -> int:
        """Returns the number of samples that are in the metrics already."""
        return self._numbers[1]

    @counted.setter
    def counted(self, number: int) -> None:
        self._numbers[1] = number

    def write(self, at: float, weight: float, rcode: int, client: bytes, key: bytes, *, is_local: bool = False) -> int:
        """Writes a sample, and returns its number. `client` has the 4 or 16 octets of an address."""
        number = self._numbers[0]
        place = (1 + number % CAPACITY) * RECORD_SIZE
        kind = len(client) | (_LOCAL if is_local else 0)
        _RECORD.pack_into(self._memory, place, at, weight, rcode, kind, len(key), client, key)
        self._numbers[0] = number + 1
        return number

    def set_rcode(self, number: int, rcode: int) -> None:
        """Sets the rcode of a sample, unless a newer sample has replaced it."""
        if self._numbers[0] - number < CAPACITY:
            self._memory[(1 + number % CAPACITY) * RECORD_SIZE + _RCODE_AT] = rcode

    def samples(self, first: int = 0) -> Iterator[Sample]:
        """Yields the samples from number `first` on, the oldest first. Leaves out those that were replaced."""
        end = self._numbers[0]
        for number in range(max(first, end - CAPACITY), end):
            place = (1 + number % CAPACITY) * RECORD_SIZE
            at, weight, rcode, kind, octets, client, key = _RECORD.unpack_from(self._memory, place)
            if self._numbers[0] - number >= CAPACITY:
                continue  # the worker may be replacing the sample now
            yield Sample(at, weight, rcode, _address(client, kind & ~_LOCAL), key[:octets], octets, bool(kind & _LOCAL))


def _address(client: bytes, size: int) -> str:
    if size == 4:
        return socket.inet_ntop(socket.AF_INET, client[:4])
    return socket.inet_ntop(socket.AF_INET6, client) if size == 16 else ""
