"""The forwarding fast path: queries for outside names that go from the socket to the upstreams and back without the
chain.

Most forwarded traffic is A and AAAA queries answered by plain records (`svcdns.wire.simple_reply`). What the plugins of
a block do with such queries and replies is always the same, so each plugin says it once, in a `FastPath`. Rules: a
query that is out of the ordinary goes through the chain from the start. A reply that is out of the ordinary goes
through the chain with its query (`Query.upstream_reply`). Both ways give the same reply and the same metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from svcdns.plugin_api.reply import Increment, Reply
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import SimpleReply

Key = tuple[bytes, int, int, bool, bool]
"""Lowered name, type, class, DO bit, CD bit."""


class UpstreamReply(Protocol):
    """The reply of an upstream."""

    @property
    def plain(self) -> SimpleReply | None:
        """The reply as octets, if it is a simple one."""
        ...

    @property
    def reply(self) -> Reply:
        """The reply as records."""
        ...


class FastPathQuery(Protocol):
    """A query on the fast path: of class IN, over UDP, with RD and AD set."""

    @property
    def key(self) -> Key:
        """The key in the cache."""
        ...

    @property
    def edns(self) -> Edns | None:
        """The EDNS of the client."""
        ...

    @property
    def wire(self) -> bytes:
        """The packet for an upstream, without its id."""
        ...

    @property
    def client(self) -> str:
        """The client's address."""
        ...

    def completed(self, completed: UpstreamReply) -> None:
        """Takes the reply; called once."""
        ...


def _always(_key: Key) -> bool:
    return True


def _nothing(_server: str) -> tuple[Increment, ...]:
    return ()


class FastPath:
    """What the plugins of one block say about its fast path (`Plugin.join_fast_path`), the last one of the chain first.

    The block has a fast path if all of them return True, one of them sends queries, and one stores replies.
    """

    __slots__ = ("ask", "forwards", "increments", "is_shut", "keep", "knows", "shuffles", "zones")

    def __init__(self) -> None:
        self.ask: Callable[[FastPathQuery], Reply | None] | None = None
        """Sends a query to an upstream. Returns a reply where none may be sent; that reply goes through the chain."""
        self.forwards = False
        """True if the block forwards queries at all."""
        self.zones: tuple[bytes, ...] = ()
        """Names that end with one of these lowered wire names never take the fast path, on all
        listeners of the block.
        """
        self.knows: Callable[[Key], bool] = _always
        """True if the cache has an entry for the key."""
        self.keep: Callable[[Key, SimpleReply], int] | None = None
        """Stores a reply, and returns the TTL for all its records."""
        self.increments: Callable[[str], tuple[Increment, ...]] = _nothing
        """What each reply adds to metrics, by the server label of its listener."""
        self.shuffles = False
        """True if addresses are put in random order."""
        self.is_shut = False
        """True while all queries must go through the chain."""
