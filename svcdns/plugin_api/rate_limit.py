"""The interface between the core and a plugin that limits the rate of replies (hook `Plugin.rate_limiter`).

The core calls the rate limiter for each reply over UDP, even from the answer table. Clients with a valid server cookie
(RFC 7873) are exempt.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Increment, Reply

MAX_AMPLIFICATION: Final = 3
"""A reply to a client that has not proved its address has at most this many times the octets of its query."""


class Verdict(IntEnum):
    """What the core does with a reply: send it, drop it, or send a reply without records that has TC set."""

    SEND = 0
    DROP = 1
    TRUNCATE = 2


class RateLimiter(Protocol):
    """Decides which replies of one server block are sent, truncated or dropped."""

    error_account: bytes
    """The account of replies to packets that no plugin sees, such as malformed queries."""

    def covers(self, key: bytes) -> bool:
        """Returns True if the limiter applies to queries for the name `key` (wire format, lower case)."""
        ...

    def account(self, query: Query, reply: Reply) -> bytes:
        """Returns the account that `reply` debits. All replies of one account share a limit."""
        ...

    def admits(self, address: str) -> bool:
        """Returns False if a query of the client must be dropped. Called once for each query."""
        ...

    def debit(self, address: str, account: bytes) -> Verdict:
        """Debits the account for the client's network, and returns what to do with the reply."""
        ...

    def count_shortened(self) -> Increment:
        """Counts a reply that is truncated because it has more than MAX_AMPLIFICATION times the octets of its query.

        Returns the metric increment for each further use of the reply.
        """
        ...


class LimitedReply(NamedTuple):
    """The limiter and the account of a stored reply."""

    limiter: RateLimiter
    account: bytes
