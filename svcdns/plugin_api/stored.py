"""Stored replies as tools see them: the replies that a tool selects, and the data about each reply (docs/cache.md)."""

from __future__ import annotations

import msgspec

from svcdns.wire import names


class Selection(msgspec.Struct, frozen=True, array_like=True):
    """The stored replies for one name, or for all names of a zone. The names are in wire format and lower case.

    `zone` has no meaning if `name` is not empty. `rtype` is the type of the query, or 0 for all types.
    """

    name: bytes = b""
    zone: bytes = names.ROOT
    rtype: int = 0

    def has_name(self, key: bytes) -> bool:
        """Returns True if the selection has replies for the lower-case name `key`."""
        return key == self.name if self.name else names.is_within(key, self.zone)

    def has_type(self, rtype: int) -> bool:
        """Returns True if the selection has replies to queries of this type."""
        return self.rtype in (0, rtype)


class StoredReply(msgspec.Struct, array_like=True):
    """A stored reply, or several of one store with the same name, type and response code.

    - `store` is `table` for the answer table, or the name of the plugin that stores the reply.
    - `server` has the form of the label `server` of metrics.
    - `name` is in lower case. `rtype` is the type of the query.
    - `ttl` is the TTL that the next client gets, in seconds.
    - `expires` is in seconds from now; None if the reply is valid until its data change. Below 0, it is a stale reply.
    - `hits` is None if the uses are not counted for a single reply. `count` is the number of replies.
    """

    store: str
    server: str
    name: bytes
    rtype: int
    rcode: int
    ttl: int
    expires: float | None = None
    hits: int | None = None
    count: int = 1

    @property
    def key(self) -> tuple[str, str, bytes, int, int]:
        """Returns the key of this reply. Replies with equal keys are shown as one row."""
        return self.store, self.server, self.name, self.rtype, self.rcode

    def join(self, other: StoredReply) -> None:
        """Adds replies with the same key. The result has the latest expiry and the largest TTL."""
        self.ttl = max(self.ttl, other.ttl)
        if self.expires is not None:
            self.expires = None if other.expires is None else max(self.expires, other.expires)
        if other.hits is not None:
            self.hits = (self.hits or 0) + other.hits
        self.count += other.count


class StoredReplies(msgspec.Struct, array_like=True):
    """The stored replies of a selection in one worker. `total` is their number. `replies` has at most the requested
    number of them.
    """

    total: int
    replies: list[StoredReply]
