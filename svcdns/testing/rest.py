"""Makes the replies to queries that no plugin answers in a contract check.

Each function imitates a built-in plugin. The reuse terms (clients, lifetime, dependencies) of the replies differ from
function to function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.wire.codes import AA, RA, Class, Type
from svcdns.wire.record import Record

Rest = Callable[[Query, Clock], Answer]
"""Answers a query; the clock is that of the check."""
TTL: Final = 30

_RDATA: Final[dict[int, bytes]] = {Type.A: b"\xc0\0\2\1", Type.AAAA: bytes(15) + b"\1", Type.TXT: b"\4rest"}
_SOA: Final = b"\2ns\0\4root\0" + b"".join(number.to_bytes(4, "big") for number in (1, 7200, 1800, 86400, TTL))


def unchanging(query: Query, clock: Clock) -> Reply:  # noqa: ARG001 - a Rest
    """Returns a reply that stays valid until a dependency changes, as the replies for cluster names do."""
    answer, authority = _records(query, TTL)
    return Reply(
        flags=query.reply_flags | AA,
        answer=answer,
        authority=authority,
        lifetime=UNTIL_CHANGED,
        dependencies=(("rest",),),
    )


def from_upstream(query: Query, clock: Clock) -> Answer:  # noqa: ARG001 - a Rest
    """Returns a reply that arrives later and must not be stored in the answer table, as from *forward*."""
    answer, authority = _records(query, TTL)
    deferred = Deferred()
    reply = Reply(flags=query.reply_flags | RA, answer=answer, authority=authority)
    asyncio.get_running_loop().call_soon(deferred.set, reply)
    return deferred


def counting_down(query: Query, clock: Clock) -> Reply:
    """Returns a reply whose TTLs count down from 30 to 1, and then begin again, as from a cache."""
    age = clock() % TTL
    answer, authority = _records(query, TTL - int(age))
    return Reply(
        flags=query.reply_flags | RA,
        answer=answer,
        authority=authority,
        lifetime=TTL - age,
        next_second=1 - age % 1,
    )


DEFAULTS: Final[tuple[Rest, ...]] = (unchanging, from_upstream, counting_down)


def _records(query: Query, ttl: int) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Returns the answer and the authority section. The answer is negative for a type without data."""
    rdata = _RDATA.get(query.rtype)
    if rdata is None or query.rclass not in (Class.IN, Class.CH):
        return (), (Record(b"\0", Type.SOA, ttl, _SOA, query.rclass),)
    return (Record(query.name, query.rtype, ttl, rdata, query.rclass),), ()
