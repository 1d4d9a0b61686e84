"""Passes the keys of stored replies to the worker that replaces this worker. The new worker makes the replies.

So the first queries that the new worker reads find stored replies. Rules:

1. Only keys are passed on. The new worker makes each reply from its own objects, with its own plugin chains.
2. A key is passed on only if its reply depends on data of this server, and not on the client, the clock or an upstream.
3. At most MAX_KEYS keys are passed on, and making their replies takes at most MAX_SECONDS.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from time import monotonic
from typing import Final

import msgspec

from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.listeners import Listeners
from svcdns.serving.listening_sockets import ResponderKey

MAX_KEYS: Final = 8192
"""The most keys that a worker passes on."""
MAX_SECONDS: Final = 1.0
"""The seconds for which a new worker makes replies before it reads its sockets."""
SAMPLED_AGE: Final = 60.0
"""The age in seconds of the oldest sampled query whose reply is made after the death of a worker."""
MAX_SAMPLED_SECONDS: Final = 0.05
"""The seconds for which replies to sampled queries are made. Queries wait meanwhile."""
PORTION: Final = 16
"""The number of keys in a portion. Making their replies takes 0.2 ms on the cold path, and 1 ms in the plugin chain."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[str, int, str, int, list[bytes]]).decode


class AnswerKeys:
    """The keys of a worker's stored replies, as state that can be handed over (`svcdns.worker.cache_handover`)."""

    def __init__(self, listeners: Listeners) -> None:
        """`listeners` has the answer tables."""
        self._listeners = listeners
        self._ends: float | None = None
        self.made = 0
        """The number of replies that `unpack` has made."""

    def pack(self, _now: float) -> Iterator[bytes]:
        """Yields the keys of stored replies in portions. Keys for UDP precede those for TCP."""
        left = MAX_KEYS
        responders = self._listeners.keyed_responders
        for where, responder in sorted(responders.items(), key=lambda item: item[0].protocol, reverse=True):
            keys = hot_keys(responder.table, left) if responder.uniform else []
            left -= len(keys)
            for at in range(0, len(keys), PORTION):
                yield _encode((*where, keys[at : at + PORTION]))

    def unpack(self, portion: bytes, _now: float) -> None:
        """Makes and stores the replies to the keys of one portion. Does nothing when MAX_SECONDS have passed.

        Raises msgspec.DecodeError if the portion cannot be read. Call it only before the worker reads its sockets.
        """
        now = monotonic()
        if self._ends is None:
            self._ends = now + MAX_SECONDS
        host, port, protocol, family, keys = _decode(portion)
        responder = self._listeners.responder_of(ResponderKey(host, port, protocol, family))
        if responder is None or now > self._ends:
            return
        for key in keys:
            self.made += responder.make_stored(key)

    def stop(self) -> None:
        """Makes no further replies."""
        self._ends = 0.0


def note_used_keys(table: AnswerTable) -> None:
    """If the table has too many keys to pass all of them on, finds out which entries are used from now on.

    Each entry moves to the table's current generation at its next use.
    """
    if len(table) > MAX_KEYS:
        table.start_generation_of_used()


def hot_keys(table: AnswerTable, limit: int) -> list[bytes]:
    """Returns the keys of at most `limit` entries that can be made again, those of the current generation first."""
    generations = [islice(one.values(), limit) for one in (table.current, *table.previous)]
    return [entry.key for entry in islice([one for one in chain.from_iterable(generations) if one.is_local], limit)]


class SampledKeys:
    """The queries that a worker has sampled before it died (plugin *traffic*). The next worker makes the replies."""

    def __init__(self, listeners: Listeners, now: float) -> None:
        """Reads the samples of the last SAMPLED_AGE seconds. `now` is the time on CLOCK_MONOTONIC."""
        self._responders = {responder.metrics.family: responder for responder in listeners.sampled_responders}
        self._keys: dict[tuple[int, bytes], None] = {}
        if self._responders:
            for sample in reversed(list(listeners.ring.samples())):
                if sample.is_local and sample.is_whole and now - sample.at < SAMPLED_AGE:
                    self._keys[2 if ":" in sample.client else 1, sample.key] = None
        self.made = 0
        """The number of replies that were made."""

    def make(self) -> Iterator[None]:
        """Makes and stores the replies, one at each step of the iterator, for at most MAX_SAMPLED_SECONDS.

        Call it only before the worker reads its sockets.
        """
        ends = monotonic() + MAX_SAMPLED_SECONDS
        for family, key in self._keys:
            if monotonic() > ends:
                return
            responder = self._responders.get(family)
            if responder is not None:
                self.made += responder.make_stored(key)
            yield
