"""The cold path: answers queries for cluster names from octets to octets, without the plugin chain.

Queries for names whose replies are not in the answer table take the cold path. Each plugin states in a `ColdPath`, when
the chain is built, how it treats such queries. Rules:

1. Only queries of class IN take the cold path, and only if their packets have the usual form.
2. The cold path and the chain give the same octets, the same dependencies and the same metrics.
3. If a function of the cold path returns None, the chain answers the query.
4. A and AAAA queries are answered without objects for the query and the reply. For the types in OTHER_TYPES, which are
   rare, there are such objects, but only one plugin gets them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.fast_path import Key, Passes
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Increment, Reply
from svcdns.wire.codes import Type
from svcdns.wire.message import MAX_MESSAGE
from svcdns.wire.record import Record

ADDRESS_TYPES: Final = frozenset({Type.A, Type.AAAA})
OTHER_TYPES: Final = frozenset(
    {
        Type.CNAME,
        Type.HTTPS,
        Type.MX,
        Type.NAPTR,
        Type.NS,
        Type.PTR,
        Type.SOA,
        Type.SRV,
        Type.SVCB,
        Type.TXT,
    }
)
"""The query types, in addition to ADDRESS_TYPES, that may take the cold path."""

Found = list[bytes] | int | None
"""What a name has: the RDATA of its records of the queried type (an empty list for a NODATA reply), or a number.

A number means a name error (NXDOMAIN). It is the number of octets of the name left of its closest encloser
(RFC 4592 §3.3.1). It is 0 if the reply must not be shared with other names below the encloser. None means that the
chain must answer.
"""


class AnswerSource(Protocol):
    """The plugin whose data are the answers of the cold path (replies without the plugin chain)."""

    def types(self, zone: bytes) -> Collection[int]:
        """Returns the query types for which the source has answers in a zone, of ADDRESS_TYPES and OTHER_TYPES."""
        ...

    def reply(self, query: Query) -> Reply | None:
        """Returns the reply to a query whose type is in OTHER_TYPES, or None if the chain must answer."""
        ...

    def service(self, name: bytes, at: int, end: int, rtype: int) -> Found:
        """Returns the address records of a Service.

        `name` is in lower case and wire format, followed by type and class. The label of the namespace begins at offset
        `at`, and the label `svc` at offset `end`. `rtype` is A or AAAA.
        """
        ...

    def name(self, name: bytes, starts: Sequence[int], zone_at: int, rtype: int) -> Found:
        """Returns the address records of any name in one of the zones.

        `name` is in lower case and wire format, followed by type and class. The zone of `name` begins at offset
        `zone_at`. `starts` has the offsets of the labels before the zone. `rtype` is A or AAAA.
        """
        ...

    def dependencies(self) -> tuple[Dependency, ...]:
        """Returns the dependencies of the reply that is made from the latest result of `service` or `name`."""
        ...

    def soa(self, zone: bytes) -> Record:
        """Returns the SOA record of a zone, for negative replies."""
        ...

    def serial(self) -> int:
        """Returns the serial of the SOA records."""
        ...


class AnswerCache(Protocol):
    """How the plugin *cache* treats replies of the cold path (replies without the plugin chain).

    `denial` is True for NODATA and NXDOMAIN replies. `zone` is a zone of the cold path.
    """

    def ttl(self, ttl: int, *, denial: bool) -> int:
        """Returns the TTL for the records of a reply whose smallest TTL is `ttl`."""
        ...

    def miss_increments(self, server: str) -> tuple[Increment, ...]:
        """Returns the increments of the metrics for a reply. `server` is the label of the listener."""
        ...

    def hit_increments(self, server: str, zone: bytes, *, denial: bool) -> tuple[Increment, ...]:
        """Returns the increments of the metrics for each further use of a stored reply."""
        ...

    def stores(self, zone: bytes) -> bool:
        """Returns True if `admits` must be called for the names of the zone."""
        ...

    def admits(self, key: Key, name: bytes, ttl: int, *, denial: bool) -> bool:
        """Returns False if the chain must answer a query, because the cache has a reply or a letter case for its key.

        Otherwise stores the letter case of `name` for `ttl` seconds, and returns True.
        """
        ...


class ColdPath:
    """The cold path of one block: replies for cluster names without the plugin chain.

    Each plugin sets its part in `Plugin.join_cold_path`, the last plugin of the chain first. The first plugin of the
    chain that sets `source` answers. All plugins before it must return True.
    """

    __slots__ = ("cache", "largest", "passes", "shuffles", "source", "ttl", "zones")

    def __init__(self) -> None:
        self.source: AnswerSource | None = None
        """Finds the records; None until a plugin has set it."""
        self.zones: tuple[bytes, ...] = ()
        """The lower-case wire names of the zones whose queries may take the cold path."""
        self.ttl = 0
        """The TTL of the records in seconds, before `cache` changes it."""
        self.cache: AnswerCache | None = None
        """The rules of the plugin *cache*; None without such a plugin."""
        self.passes: tuple[Passes, ...] = ()
        """The functions of the plugins before the source that answer some names themselves."""
        self.largest = MAX_MESSAGE
        """The largest UDP payload size in octets that replies use."""
        self.shuffles = False
        """True if the address records of a reply are put in random order, and rotated for each further query."""
