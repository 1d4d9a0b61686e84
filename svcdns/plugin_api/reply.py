"""A reply before it is encoded: sections of records, and the terms on which the encoded reply may be used again.

Replies are frozen: to change a reply, make a changed copy (`msgspec.structs.replace`). `wire.message` turns a reply
into a packet.
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
"""A lifetime: the reply is right until one of its dependencies changes."""

NOT_REUSABLE: Final = 0.0
"""A lifetime: the reply is for this query alone."""

Increment = tuple[int, float]
"""A cell of this worker's counters, and the amount to add to it."""


class CacheScope(IntEnum):
    """Who else may get a reply: all clients, those of the same client class, or nobody."""

    SHARED = 0
    CLIENT_CLASS = 1
    CLIENT = 2


class HeaderFlags(Protocol):
    """A query, as far as a reply copies its header."""

    @property
    def reply_flags(self) -> int:
        """RD and CD."""
        ...


class Variants(Protocol):
    """A reply in several orders of its records; `widest` is the greatest useful number of variants.

    With `turns_answer`, each variant is the first one with its answer section rotated by an equal share of its length.
    """

    widest: int
    turns_answer: bool

    def variant(self, number: int, of: int) -> Reply:
        """Variant `number` of `of`, from 0; number 0 of 1 is a random one."""
        ...


class Reply(msgspec.Struct, frozen=True):
    """What a plugin answers.

    `flags` are the header bits AA, TC, RD, RA, AD and CD; start from `query.reply_flags`, which has RD and CD copied.
    `edns` is an OPT record of the plugin or of an upstream; the core adds the one that mirrors the client's.
    `has_message` is False for an rcode alone, which the core turns into a message; *errors* logs `error` of such
    replies. `dropped` means that the client gets no reply. The terms of reuse: `lifetime` in seconds, `dependencies`
    whose change ends it, the `scope` of clients, and `increments`, which each further use adds to metrics.
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
    """The code of an extended error (RFC 8914) for a client with EDNS; None for none."""
    source: str = ""
    """The upstream that sent the reply, `host:port`; empty if it was made here."""
    next_second: float = UNTIL_CHANGED
    """Seconds until the TTLs go down by one, and then again each second; infinite if they stay."""
    rotate: Callable[[Reply, Random], Variants] | None = None
    """Makes the orders in which the records are sent (*loadbalance*); None to send them as they stand."""
    stream: Generator[Iterable[Record], None, None] | None = None
    """In place of `answer`: the records of a zone transfer (RFC 5936 §2.2), made in small portions
    while they are sent.
    """

    @classmethod
    def refused(cls, query: HeaderFlags) -> Reply:
        """REFUSED, for as long as the plugin would answer so."""
        return cls(rcode=Rcode.REFUSED, flags=query.reply_flags, lifetime=UNTIL_CHANGED)

    def with_ttls(self, change: Callable[[int], int]) -> Reply:
        """The reply with the TTL of each record changed, in seconds. It lives until the TTLs that it was made from go
        down.
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
    """A reply that is an rcode alone: the core sends it with the question section and without records."""
    return Reply(rcode=rcode, has_message=False, error=error)


def joined(reply: Reply, other: Reply) -> Reply:
    """`reply` with the reuse terms of another that it was made from: the shorter lifetime, all dependencies, and the
    extended error.

    If the TTLs of the other go down, the joined reply lives until they do: its own TTLs may have been made from them.
    """
    return msgspec.structs.replace(
        reply,
        lifetime=min(reply.lifetime, other.lifetime, other.next_second),
        dependencies=reply.dependencies + tuple(o for o in other.dependencies if o not in reply.dependencies),
        scope=max(reply.scope, other.scope),
        increments=reply.increments + other.increments,
        extended=reply.extended if reply.extended is not None else other.extended,
    )
