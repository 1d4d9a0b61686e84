"""Passes the keys of stored replies to the worker that replaces this one, which makes the replies itself.

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

from svcdns.chain.routing import CONFIGURATION
from svcdns.serving.answer_table import AnswerTable, Entry
from svcdns.serving.listeners import Listeners
from svcdns.serving.listening_sockets import ResponderKey

MAX_KEYS: Final = 8192
"""The most keys that a worker passes on."""
MAX_SECONDS: Final = 1.0
"""The seconds for which a new worker makes replies before it reads its sockets."""
PORTION: Final = 16
"""The keys of one portion. Their replies take about 0.2 ms on the cold path, and 1 ms in the plugin chain."""

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
    """Lets the table find out which entries are used from now on, if it has too many keys to pass all of them on.

    Each entry moves to the table's current generation at its next use.
    """
    if len(table) > MAX_KEYS:
        table.start_generation_of_used()


def hot_keys(table: AnswerTable, limit: int) -> list[bytes]:
    """Returns the keys of at most `limit` entries that can be made again, those of the current generation first."""
    generations = [islice(one.values(), limit) for one in (table.current, *table.previous)]
    return [entry.key for entry in islice(filter(_can_be_made, list(chain.from_iterable(generations))), limit)]


def _can_be_made(entry: Entry) -> bool:
    """Returns True if a new worker makes the same reply without a client, a clock or another server."""
    details = entry.details
    if details is not None and (details.countdown or details.observed or details.limited):
        return False
    return bool(entry.dependencies) and CONFIGURATION not in entry.dependencies
