"""Time limits of a client's TCP or TLS connection (plugin *timeouts*)."""

from __future__ import annotations

import msgspec


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds a connection may take: for its first message, between messages, and to accept a reply; and how many
    `queries` it may bring in all, -1 for any number (docs/behaviour/server.md#listeners)."""

    read: float = 3.0
    idle: float = 10.0
    write: float = 5.0
    queries: int = -1
