"""The rules of a cache for replies of the cold path (`svcdns.plugin_api.cold_path`).

An answer that depends only on cluster data is not stored. Such an answer gets the TTLs of a cached one, and is counted
like one. The letter case of its name is stored (see `lookup`).
"""

from __future__ import annotations

from collections.abc import Callable

from svcdns.plugin_api.reply import Increment
from svcdns.plugin_api.reply_type import MessageType
from svcdns.plugins.cache.lookup import CachedReplies, increments_of_cluster_answer
from svcdns.plugins.cache.metrics import Cells


class ColdRules:
    """The rules of one cache. See `svcdns.plugin_api.cold_path.AnswerCache`."""

    def __init__(self, replies: CachedReplies, cells_of: Callable[[str], Cells]) -> None:
        """`cells_of` returns the counters of the cache for the server label of a listener."""
        self._replies, self._cells_of = replies, cells_of
        self.admits = replies.admits

    def ttl(self, ttl: int, *, denial: bool) -> int:
        """Returns the TTL for the records of a reply whose smallest TTL is `ttl`."""
        return self._replies.lifetime_of(ttl, denial=denial)

    def miss_increments(self, server: str) -> tuple[Increment, ...]:
        """Returns the increments of the metrics for a reply."""
        cells = self._cells_of(server)
        return ((cells.requests, 1.0), (cells.misses, 1.0))

    def hit_increments(self, server: str, zone: bytes, *, denial: bool) -> tuple[Increment, ...]:
        """Returns the increments of the metrics for each further use of a stored reply."""
        found = MessageType.NXDOMAIN if denial else MessageType.NOERROR
        return increments_of_cluster_answer(
            self._cells_of(server), found if self._replies.is_enabled(zone, found) else MessageType.OTHERERROR
        )

    def stores(self, zone: bytes) -> bool:
        """Returns False if the option `disable` covers all replies of the zone."""
        return not self._replies.never_stores(zone)
