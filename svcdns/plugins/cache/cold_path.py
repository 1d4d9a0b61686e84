"""The rules of a cache for replies of the cold path (`svcdns.plugin_api.cold_path`).

They are the rules of `lookup` for an answer that depends only on cluster data: the answer is not stored, but it gets
the TTLs of a cached answer, it is counted like one, and the letter case of its name is stored.
"""

from __future__ import annotations

from collections.abc import Callable

from svcdns.plugin_api.reply import Increment
from svcdns.plugin_api.reply_type import MessageType
from svcdns.plugins.cache.lookup import CachedReplies, increments_of_cluster_answer
from svcdns.plugins.cache.metrics import Cells


class ColdRules:
    """The rules of one cache; see `svcdns.plugin_api.cold_path.AnswerCache`."""

    def __init__(self, replies: CachedReplies, cells_of: Callable[[str], Cells]) -> None:
        """`cells_of` returns the counters of the cache for the server label of a listener."""
        self._replies, self._cells_of = replies, cells_of
        self.admits = replies.admits

    def ttl(self, ttl: int, *, denial: bool) -> int:
        """Returns the TTL for the records of a reply whose smallest TTL is `ttl`."""
        return self._replies.lifetime_of(ttl, denial=denial)

    def miss_increments(self, server: str) -> tuple[Increment, ...]:
        """Returns what a reply adds to the metrics."""
        cells = self._cells_of(server)
        return ((cells.requests, 1.0), (cells.misses, 1.0))

    def hit_increments(self, server: str, zone: bytes, *, denial: bool) -> tuple[Increment, ...]:
        """Returns what each further use of a stored reply adds to the metrics."""
        found = MessageType.NXDOMAIN if denial else MessageType.NOERROR
        return increments_of_cluster_answer(
            self._cells_of(server), found if self._replies.is_enabled(zone, found) else MessageType.OTHERERROR
        )

    def stores(self, zone: bytes) -> bool:
        """Returns True unless the option `disable` covers all replies of the zone."""
        return not self._replies.never_stores(zone)
