"""A queue that shares the time of a worker among clients (deficit round robin, Shreedhar and Varghese 1995).

The items are packets, connections with queries, or steps of TLS handshakes. The clients take turns. At its turn, a
client may use QUANTUM seconds. Time beyond this is deducted from the client's next turns. When the queue is full, the
client with the most items loses its newest one. A client's items keep their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

QUANTUM: Final = 0.0001
"""The seconds of a turn."""
MAX_DEBT: Final = 20 * QUANTUM
"""The most seconds that are deducted from a client's next turns."""


class _Client(Generic[Item]):
    """One client: its waiting items, and the seconds that it may still use in its turn."""

    __slots__ = ("credit", "items", "key")

    def __init__(self, key: bytes) -> None:
        self.key, self.credit = key, QUANTUM
        self.items: deque[Item] = deque()


class FairQueue(Generic[Item]):
    """The waiting items of one socket: one queue for each client. The clients take turns."""

    def __init__(self, most: int, dropped: Callable[[Item], object] | None = None) -> None:
        """`most` is the largest number of items that may wait, of all clients together.

        `dropped` is called with each item that is dropped because the queue is full.
        """
        self._most, self._length, self._dropped = most, 0, dropped
        self._clients: dict[bytes, _Client[Item]] = {}
        self.turns: deque[_Client[Item]] = deque()
        """The clients with waiting items; the first one has its turn. Empty if no item waits."""
        self._current: _Client[Item] | None = None
        self._by_length: list[dict[_Client[Item], None]] = [{}]
        """The clients by the number of their items."""
        self._longest = 0

    def __len__(self) -> int:
        """Returns the number of waiting items of all clients."""
        return self._length

    def __contains__(self, key: object) -> bool:
        """Returns True if an item of the client `key` waits."""
        return key in self._clients

    def add(self, key: bytes, item: Item) -> bytes | None:
        """Adds an item of the client `key`. If the queue is full, drops an item of the client that has the most items.

        Returns the key of the client whose item was dropped, or None. This may be the client `key`.
        """
        client = self._clients.get(key)
        if self._length >= self._most:
            if self._longest <= (len(client.items) if client is not None else 1):
                if self._dropped is not None:
                    self._dropped(item)
                return key
            dropped = self._remove_newest()
            self.add(key, item)
            return dropped
        if client is None:
            client = self._clients[key] = _Client(key)
            self.turns.append(client)
        items = client.items
        length = len(items)
        if length:
            del self._by_length[length][client]
        items.append(item)
        if length + 1 == len(self._by_length):
            self._by_length.append({})
        self._by_length[length + 1][client] = None
        self._longest = max(self._longest, length + 1)
        self._length += 1
        return None

    def pop(self) -> Item:
        """Removes and returns the next item. Raises IndexError if no item waits."""
        turns = self.turns
        client = turns[0]
        while client.credit <= 0 and len(turns) > 1:
            client.credit += QUANTUM
            turns.rotate(-1)
            client = turns[0]
        item = client.items.popleft()
        self._shortened(client)
        self._current = client
        return item

    def charge(self, seconds: float) -> None:
        """Deducts `seconds` from the time of the client whose item `pop` returned last. Call it after each item."""
        client = self._current
        if client is not None:
            client.credit = max(client.credit - seconds, -MAX_DEBT)

    def _remove_newest(self) -> bytes:
        """Removes the newest item of the client with the most items, and returns the key of this client."""
        client = next(reversed(self._by_length[self._longest]))
        item = client.items.pop()
        self._shortened(client)
        if self._dropped is not None:
            self._dropped(item)
        return client.key

    def _shortened(self, client: _Client[Item]) -> None:
        length = len(client.items)
        del self._by_length[length + 1][client]
        if length:
            self._by_length[length][client] = None
        else:
            del self._clients[client.key]
            self.turns.remove(client)
        if not self._by_length[self._longest] and self._longest:
            self._longest -= 1
        self._length -= 1
