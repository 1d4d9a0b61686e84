"""Time limits of a client's TCP or TLS connection (plugin *timeouts*)."""

from __future__ import annotations

import msgspec


class Timeouts(msgspec.Struct, frozen=True):
    """The limits of a client's connection (docs/behaviour/server.md#listeners).

    The client may take `read` seconds for its first query, `idle` seconds between two queries, and `write` seconds to
    accept a reply. `queries` is the number of queries that the client may send, or -1 for no limit.
    """

    read: float = 3.0
    idle: float = 10.0
    write: float = 5.0
    queries: int = -1
