"""The health of one upstream server: its usual latency, whether it is silent, and whether it is left out.

Two states leave a server out. `down` is CoreDNS's: more health checks in a row failed than `max_fails` allows.
`circuit_open` is a circuit breaker: CIRCUIT_THRESHOLD queries in a row failed, each by an error or by silence of
SILENCE seconds. The circuit opens within a fraction of a second, and any reply closes it, a health check's included.
With `max_fails` 0, or without health checks, no server is left out.
"""

from __future__ import annotations

from typing import Final

SILENCE: Final = 0.15
"""Seconds without any reply after which a server with open queries counts as silent."""
MIN_SLOW_AFTER: Final = 0.02
"""Seconds for which a server is never called slow."""
CIRCUIT_THRESHOLD: Final = 3
"""Failed queries in a row that open the circuit."""


class Health:
    """The health of one server. All times are on the caller's clock."""

    __slots__ = ("_checked", "_deviation", "_failures", "_mean", "failed_checks", "last_reply", "max_fails")

    def __init__(self, max_fails: int, *, checked: bool) -> None:
        """`checked` is true if the server gets health checks."""
        self.max_fails, self._checked = max_fails, checked and max_fails > 0
        self.failed_checks = 0
        """Health checks that failed in a row."""
        self.last_reply = float("-inf")
        """When the last reply of any kind came."""
        self._failures = 0
        self._mean, self._deviation = 0.0, SILENCE / 2

    @property
    def down(self) -> bool:
        """True if more health checks in a row failed than are allowed."""
        return self._checked and self.failed_checks > self.max_fails

    @property
    def circuit_open(self) -> bool:
        """True if the circuit breaker leaves the server out."""
        return self._checked and self._failures >= CIRCUIT_THRESHOLD

    @property
    def usable(self) -> bool:
        """True if queries may go to the server: it is not down, and its circuit is closed."""
        return not self._checked or (self._failures < CIRCUIT_THRESHOLD and self.failed_checks <= self.max_fails)

    @property
    def slow_after(self) -> float:
        """Seconds after which a reply is later than usual.

        Mean plus four mean deviations, as TCP computes its retransmission timeout (RFC 6298 §2).
        """
        return min(SILENCE, max(MIN_SLOW_AFTER, self._mean + 4 * self._deviation))

    def silent(self, since: float) -> bool:
        """True if no reply has come since that time."""
        return self.last_reply < since

    def reply_received(self, now: float) -> bool:
        """Notes a reply of any kind. Returns true if it ends a row of failures."""
        self.last_reply = now
        if not self._failures and not self.failed_checks:
            return False
        self.failed_checks = self._failures = 0
        return True

    def observe_latency(self, seconds: float) -> None:
        """Notes how long a reply took."""
        error = seconds - self._mean
        self._mean += error / 8
        self._deviation += (abs(error) - self._deviation) / 4

    def query_failed(self) -> None:
        """Notes a query that failed."""
        self._failures += 1
