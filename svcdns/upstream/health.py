"""The health of one upstream server: its usual latency, and whether it may get queries.

A server gets no queries in two states. A server is `down`, as in CoreDNS, if more health checks in a row failed than
`max_fails` allows. The circuit breaker of a server is open (`circuit_open`) if CIRCUIT_THRESHOLD queries in a row
failed. Any reply closes the circuit. Without health checks, or with `max_fails` 0, a server is always usable.
"""

from __future__ import annotations

from typing import Final

SILENCE: Final = 0.15
"""A server that has open queries and sends no reply for this many seconds counts as silent."""
MIN_SLOW_AFTER: Final = 0.02
"""A reply within this many seconds is never called slow, however fast the server usually is."""
CIRCUIT_THRESHOLD: Final = 3
"""The circuit breaker opens after this many failed queries in a row."""


class Health:
    """The health of one server. All times are in seconds on the caller's monotonic clock."""

    __slots__ = ("_checked", "_deviation", "_failures", "_mean", "failed_checks", "last_reply", "max_fails")

    def __init__(self, max_fails: int, *, checked: bool) -> None:
        """`checked` is true if the server gets health checks."""
        self.max_fails, self._checked = max_fails, checked and max_fails > 0
        self.failed_checks = 0
        """Health checks that failed in a row."""
        self.last_reply = float("-inf")
        """The time of the last reply, to a query or to a health check."""
        self._failures = 0
        self._mean, self._deviation = 0.0, SILENCE / 2

    @property
    def down(self) -> bool:
        """Returns True if more health checks in a row failed than `max_fails` allows."""
        return self._checked and self.failed_checks > self.max_fails

    @property
    def circuit_open(self) -> bool:
        """Returns True if the circuit breaker is open: the server gets no queries."""
        return self._checked and self._failures >= CIRCUIT_THRESHOLD

    @property
    def usable(self) -> bool:
        """Returns True if the server is not down and its circuit breaker is not open."""
        return not self._checked or (self._failures < CIRCUIT_THRESHOLD and self.failed_checks <= self.max_fails)

    @property
    def slow_after(self) -> float:
        """Returns the seconds after which a reply is unusually late for this server.

        The result is the mean latency plus four mean deviations (RFC 6298 §2).
        """
        return min(SILENCE, max(MIN_SLOW_AFTER, self._mean + 4 * self._deviation))

    def silent(self, since: float) -> bool:
        """Returns True if the server has sent no reply since the time `since`."""
        return self.last_reply < since

    def reply_received(self, now: float) -> bool:
        """Records a reply to a query or a health check.

        Returns True if a query or a health check failed before this reply.
        """
        self.last_reply = now
        if not self._failures and not self.failed_checks:
            return False
        self.failed_checks = self._failures = 0
        return True

    def query_answered(self, now: float, latency: float) -> bool:
        """Records a reply to a query, and its latency in seconds. Returns the same as `reply_received`."""
        error = latency - self._mean
        self._mean += error / 8
        self._deviation += ((error if error > 0 else -error) - self._deviation) / 4
        self.last_reply = now
        return bool(self._failures or self.failed_checks) and self.reply_received(now)

    def query_failed(self) -> None:
        """Records that a query failed."""
        self._failures += 1
