"""The cold path: answers address queries for cluster names directly, without the plugin chain.

After a start or a change, no reply is in the answer table. The plugin chain would make each reply from Python objects.
For most names of a cluster, every plugin does the same with each query. Such plugins state that once, in a `ColdPath`,
when the chain is built. The core then makes the replies from the octets of the query and the data of one plugin.

Rules:

1. Only A and AAAA queries of class IN take the cold path, and only if no part of their packet is unusual.
2. The cold path and the chain give the same octets, the same dependencies and the same metrics.
3. If a function of the cold path returns None, the chain answers the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.fast_path import Key
from svcdns.plugin_api.reply import Increment
from svcdns.wire.record import Record

Found = list[bytes] | int | None
"""What a name has: the RDATA of its records of the queried type (an empty list for a NODATA reply), or a number.

A number means a name error (NXDOMAIN). It is the number of octets of the name left of its closest encloser
(RFC 4592 §3.3.1). It is 0 if the reply must not be shared with other names below the encloser. None means that the
chain must answer.
"""


class AnswerSource(Protocol):
    """The plugin whose data are the answers of the cold path."""

    def service(self, name: bytes, at: int, end: int, rtype: int) -> Found:
        """Finds the address records of a Service.

        `name` is in lower case and wire format, with type and class after it. The label of the namespace begins at
        offset `at`, and the label `svc` at `end`. `rtype` is A or AAAA.
        """
        ...

    def name(self, name: bytes, starts: Sequence[int], zone_at: int, rtype: int) -> Found:
        """Finds the address records of any name in one of the zones.

        `name` is in lower case and wire format, with type and class after it. Its zone begins at offset `zone_at`, and
        `starts` are the offsets of the labels before the zone. `rtype` is A or AAAA.
        """
        ...

    def dependencies(self, name: bytes, zone_at: int) -> tuple[Dependency, ...]:
        """Returns the dependencies of the reply for a name in lower case, whose zone begins at offset `zone_at`."""
        ...

    def soa(self, zone: bytes) -> Record:
        """Returns the SOA record of a zone, for negative replies."""
        ...

    def serial(self) -> int:
        """Returns the serial of the SOA records."""
        ...


class AnswerCache(Protocol):
    """What the plugin *cache* does with the replies of the cold path.

    `denial` is True for NODATA and NXDOMAIN replies. `zone` is a zone of the cold path.
    """

    def ttl(self, ttl: int, *, denial: bool) -> int:
        """Returns the TTL for the records of a reply whose smallest TTL is `ttl`."""
        ...

    def miss_increments(self, server: str) -> tuple[Increment, ...]:
        """Returns what a reply adds to the metrics. `server` is the label of the listener."""
        ...

    def hit_increments(self, server: str, zone: bytes, *, denial: bool) -> tuple[Increment, ...]:
        """Returns what each further use of a stored reply adds to the metrics."""
        ...

    def stores(self, zone: bytes) -> bool:
        """Returns True if `admits` must be called for the names of the zone."""
        ...

    def admits(self, key: Key, name: bytes, ttl: int, *, denial: bool) -> bool:
        """Returns False if the chain must answer a query, because the cache has something stored for its key.

        Otherwise remembers the letter case of `name` for `ttl` seconds.
        """
        ...


class ColdPath:
    """The cold path of one block. Each plugin sets its part in `Plugin.join_cold_path`.

    The last plugin of the chain sets its part first. The first plugin of the chain that sets `source` answers. The
    plugins before this plugin must all return True. Plugins after it are not asked, because no query of the cold path
    reaches them.
    """

    __slots__ = ("cache", "shuffles", "source", "ttl", "zones")

    def __init__(self) -> None:
        self.source: AnswerSource | None = None
        """Finds the records; None until a plugin has set it."""
        self.zones: tuple[bytes, ...] = ()
        """The lower-case wire names of the zones whose queries may take the cold path."""
        self.ttl = 0
        """The TTL of the records in seconds, before `cache` changes it."""
        self.cache: AnswerCache | None = None
        """The rules of the plugin *cache*; None without such a plugin."""
        self.shuffles = False
        """True if the address records of a reply are put in random order, and rotated for each further query."""
