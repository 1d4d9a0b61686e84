"""The fast path: forwards simple queries from the socket to an upstream and back, without the plugin chain.

Simple queries are A and AAAA queries without options. Each plugin states once, in a `FastPath`, what it does with them.
Rules:

1. A query that is not simple goes through the chain.
2. If the reply is not simple (`svcdns.wire.simple_reply`), query and reply go through the chain
   (`Query.upstream_reply`).
3. The fast path and the chain give the same reply and the same metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import Increment, Reply
from svcdns.wire.message import MAX_MESSAGE
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import SimpleReply

Key = tuple[bytes, int, int, bool, bool]
"""The key of a query in the cache: name in lower case, type, class, DO bit and CD bit."""

Passes = Callable[[bytes, int], tuple[Dependency, ...] | None]
"""A plugin's function that tells whether the plugin passes a query on to the next plugin.

The arguments are the query name (wire format, lower case) and the query type. The result has the data on which the
decision depends, or is None if the plugin may answer the query itself. Then the query goes through the chain.
"""


class UpstreamReply(Protocol):
    """The reply of an upstream to a query on the fast path (forwarding without the plugin chain)."""

    @property
    def plain(self) -> SimpleReply | None:
        """Returns the reply as octets if it is simple (only addresses or a denial; see wire/simple_reply.py), otherwise
        None.
        """
        ...

    @property
    def reply(self) -> Reply:
        """Returns the reply as records."""
        ...


class CachedReply(NamedTuple):
    """A simple reply from a cache, for a query on the fast path (forwarding without the plugin chain).

    `packet` is the reply without an OPT record, with the letter case of the query that it answered. All its records get
    the TTL `ttl`. The reply may be stored for `lifetime` seconds. The TTLs count down after `next_second` seconds, and
    then once a second.
    `increments` is what each use of the reply adds to the metrics.
    """

    packet: bytes
    ttl: int
    lifetime: float
    next_second: float
    increments: tuple[Increment, ...]


class FastPathQuery(Protocol):
    """A query over UDP, of class IN, on the fast path (forwarding without the plugin chain)."""

    @property
    def key(self) -> Key:
        """Returns the key of the query in the cache."""
        ...

    @property
    def flags(self) -> int:
        """Returns the header bits RD and AD of the query to an upstream."""
        ...

    @property
    def edns(self) -> Edns | None:
        """Returns the OPT record of the client's query, or None."""
        ...

    @property
    def wire(self) -> bytes:
        """Returns the packet to send to an upstream, without its message id."""
        ...

    @property
    def client(self) -> str:
        """Returns the address of the client as text."""
        ...

    @property
    def packet(self) -> bytes:
        """Returns the packet of the client."""
        ...

    @property
    def requestor(self) -> Client:
        """Returns the client."""
        ...

    @property
    def server(self) -> str:
        """Returns the server label of the listener in metrics."""
        ...

    @property
    def zone(self) -> bytes:
        """Returns the server block's zone that contains the name, in lower case."""
        ...

    def note_arrival(self) -> None:
        """Passes the query to the taps of the block (`svcdns.plugin_api.tap`)."""
        ...

    def completed(self, completed: UpstreamReply) -> None:
        """Called once, with the upstream's reply."""
        ...


def _never(_key: Key) -> bool:
    return False


def _nothing(_server: str) -> tuple[Increment, ...]:
    return ()


def _no_reply(_key: Key, _server: str) -> CachedReply | None:
    return None


def _no_changes() -> int:
    return 0


class FastPath:
    """The fast path of one block: forwarding without the plugin chain.

    Each plugin sets its part in `Plugin.join_fast_path`, the last plugin of the chain first. The block has a fast path
    if every plugin returns True, and one of them sends queries.
    """

    __slots__ = (
        "ask", "cached", "changes", "forwards", "increments", "is_shut", "keep", "knows", "largest", "passes", "shuffles", "zones",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ask: Callable[[FastPathQuery], Reply | None] | None = None
        """Sends a query to an upstream. If that is not possible, returns a reply, which then goes through the chain."""
        self.forwards = False
        """True if the block forwards queries."""
        self.zones: tuple[bytes, ...] = ()
        """Names that end with one of these lower-case wire names never take the fast path.

        This applies to all listeners of the block.
        """
        self.knows: Callable[[Key], bool] = _never
        """Returns True if the cache has an entry for the key."""
        self.cached: Callable[[Key, str], CachedReply | None] = _no_reply
        """Returns the cache's reply for a key and the server label of a listener, or None.

        Before it returns None, it removes an entry that has expired. If an entry remains, the chain must answer.
        """
        self.passes: tuple[Passes, ...] = ()
        """The functions of the plugins that answer some names themselves."""
        self.changes: Callable[[], int] = _no_changes
        """Returns how many times dependencies of the cache's replies have changed."""
        self.keep: Callable[[Key, SimpleReply, tuple[Dependency, ...], int], int] | None = None
        """Stores a reply, and returns the TTL of all its records, in seconds. The attribute is None if no plugin stores
        replies.

        The third argument has the dependencies of the reply. If it is not empty, the fourth argument is the result of
        `changes` when the query arrived: if that number has grown since, the reply is not stored.
        """
        self.largest = MAX_MESSAGE
        """The largest UDP payload size in octets that replies use, and that forwarded queries advertise."""
        self.increments: Callable[[str], tuple[Increment, ...]] = _nothing
        """Returns what each reply adds to the metrics, for the server label of a listener."""
        self.shuffles = False
        """True if the address records of a reply are put in random order."""
        self.is_shut = False
        """True while all queries must go through the chain."""
