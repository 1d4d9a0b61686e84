"""A reply before it is encoded: its records, and the terms on which the encoded reply may be reused.

Replies are frozen: to change a reply, make a changed copy (`msgspec.structs.replace`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from enum import IntEnum
from random import Random
from typing import Final, Protocol

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.wire.codes import Rcode
from svcdns.wire.record import Edns, Record

UNTIL_CHANGED: Final = float("inf")
"""The lifetime of a reply that stays correct until one of its dependencies changes."""

NOT_REUSABLE: Final = 0.0
"""The lifetime of a reply that is for this query alone."""

Increment = tuple[int, float]
"""A cell in this worker's counters, and the amount to add to it."""


class CacheScope(IntEnum):
    """The clients that may get a stored reply: all clients, the clients of one client class, or none."""

    SHARED = 0
    CLIENT_CLASS = 1
    CLIENT = 2


class HeaderFlags(Protocol):
    """A query, as the source of a reply's header flags."""

    @property
    def reply_flags(self) -> int:
        """Returns the flags RD and CD of the query."""
        ...


class Variants(Protocol):
    """A reply whose records can be sent in several orders, which are called variants.

    `widest` is the largest useful number of variants. If `turns_answer` is True, all variants are rotations of the same
    answer section.
    """

    widest: int
    turns_answer: bool

    def variant(self, number: int, of: int) -> Reply:
        """Returns variant `number` of `of` variants. Numbers begin with 0. If `of` is 1, the order is random."""
        ...


class Reply(msgspec.Struct, frozen=True):
    """A reply of a plugin.

    - `flags` has the header bits AA, TC, RD, RA, AD and CD. Begin with `query.reply_flags`.
    - `edns` is an OPT record of the plugin or of an upstream. The core makes the OPT record of the message.
    - `has_message` is False for a reply that is only an rcode. The plugin *errors* logs its `error`.
    - `dropped` is True if the client gets no reply.

    The terms of reuse: `lifetime` is in seconds. A change of one of `dependencies` ends it. `scope` is the set of
    clients that may get the reply. `increments` are added to the metrics at each further use.
    """

    rcode: int = 0
    flags: int = 0
    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = None
    has_message: bool = True
    dropped: bool = False
    error: str = ""
    lifetime: float = NOT_REUSABLE
    dependencies: tuple[Dependency, ...] = ()
    scope: CacheScope = CacheScope.SHARED
    increments: tuple[Increment, ...] = ()
    extended: int | None = None
    """The code of an extended DNS error (RFC 8914) for clients with EDNS, or None."""
    source: str = ""
    """The upstream that sent the reply, as `host:port`; empty if this server made the reply."""
    next_second: float = UNTIL_CHANGED
    """The seconds until the TTLs go down by one; they then go down each second. Infinite if the TTLs do not change."""
    rotate: Callable[[Reply, Random], Variants] | None = None
    """Returns the orders in which the records may be sent (plugin *loadbalance*). None keeps the order."""
    stream: Generator[Iterable[Record], None, None] | None = None
    """The records of a zone transfer (RFC 5936 §2.2), in place of `answer`.

    The generator makes them in small portions while they are sent.
    """

    def __await__(self) -> Generator[None, None, Reply]:
        """Returns this reply, so that a coroutine can await any answer."""
        yield from ()
        return self

    @classmethod
    def refused(cls, query: HeaderFlags) -> Reply:
        """Returns a REFUSED reply with the lifetime UNTIL_CHANGED."""
        return cls(rcode=Rcode.REFUSED, flags=query.reply_flags, lifetime=UNTIL_CHANGED)

    def with_ttls(self, change: Callable[[int], int]) -> Reply:
        """Returns a copy of the reply in which each record has the TTL `change(ttl)`, in seconds.

        If the TTLs of this reply count down, the copy expires when they next go down.
        """

        def section(records: tuple[Record, ...]) -> tuple[Record, ...]:
            return tuple([msgspec.structs.replace(record, ttl=change(record.ttl)) for record in records])

        return msgspec.structs.replace(
            self,
            answer=section(self.answer),
            authority=section(self.authority),
            additional=section(self.additional),
            lifetime=min(self.lifetime, self.next_second),
            next_second=UNTIL_CHANGED,
        )


def rcode_only(rcode: int, error: str = "") -> Reply:
    """Returns a reply that is only an rcode. The core sends it with the question section and without records."""
    return Reply(rcode=rcode, has_message=False, error=error)


def joined(reply: Reply, other: Reply) -> Reply:
    """Returns `reply`, which was made from `other`, with the reuse terms of both.

    The result has the shorter lifetime, the narrower scope, and all dependencies and increments. The result has the
    extended error of `reply`, or else of `other`. If the TTLs of `other` count down, the result expires when they next
    go down.
    """
    return msgspec.structs.replace(
        reply,
        lifetime=min(reply.lifetime, other.lifetime, other.next_second),
        dependencies=reply.dependencies + tuple(o for o in other.dependencies if o not in reply.dependencies),
        scope=max(reply.scope, other.scope),
        increments=reply.increments + other.increments,
        extended=reply.extended if reply.extended is not None else other.extended,
    )
