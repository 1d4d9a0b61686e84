"""The short way of questions that only the cache and the upstreams of a block have something to say about: outside names.

Most of them get a plain reply (`svcdns.wire.simple_reply`), and nobody on the way has anything to change about it that could not be said
beforehand. So each plugin of a block says once what that is, in a `FastPath`; a question goes from the socket to the upstreams
and its reply
back, as octets, and no other plugin sees it. Rules: whatever is out of the ordinary about the question goes through the chain from the
start; where it is about the reply, the question goes through the chain then, with that reply in hand (`Query.upstream_reply`).
Both ways give the same answer, and count alike.
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
    """A reply: as a plain one too where it is one."""

    @property
    def plain(self) -> SimpleReply | None:
        """The octets."""
        ...

    @property
    def reply(self) -> Reply:
        """The records."""
        ...


class FastPathQuery(Protocol):
    """A question that leaves: of class IN, over UDP, with RD and AD set."""

    @property
    def key(self) -> Key:
        """What the cache knows it under."""
        ...

    @property
    def edns(self) -> Edns | None:
        """The client's."""
        ...

    @property
    def wire(self) -> bytes:
        """The packet for an upstream behind its id."""
        ...

    @property
    def client(self) -> str:
        """The client's address."""
        ...

    def completed(self, completed: UpstreamReply) -> None:
        """Takes the reply, once."""
        ...


def _always(_key: Key) -> bool:
    return True


def _nothing(_server: str) -> tuple[Increment, ...]:
    return ()


class FastPath:
    """What the plugins of one block have said. Handlers with a `relays(relay) -> bool` take part, outermost last; without it, or with
    False, a block has no short way."""

    __slots__ = ("ask", "forwards", "increments", "is_shut", "keep", "knows", "shuffles", "zones")

    def __init__(self) -> None:
        self.ask: Callable[[FastPathQuery], Reply | None] | None = None
        """Asks the upstreams; a reply if they are not to be asked, which is then the chain's."""
        self.forwards = False
        """Whether the block forwards queries at all."""
        self.zones: tuple[bytes, ...] = ()
        """Names that end like one of these, lowered, go through the chain, on all listeners of the block."""
        self.knows: Callable[[Key], bool] = _always
        """Whether the cache has something to say."""
        self.keep: Callable[[Key, SimpleReply], int] | None = None
        """Keeps a reply, and gives the TTL that all its records are to have."""
        self.increments: Callable[[str], tuple[Increment, ...]] = _nothing
        """What each reply adds to counters, by the server label of its listener."""
        self.shuffles = False
        """Whether addresses are to be put in random order."""
        self.is_shut = False
        """Whether all questions go through the chain for the time being."""
