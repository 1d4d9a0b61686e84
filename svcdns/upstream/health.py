"""What is known of how one upstream server is: how fast it usually answers, whether it is silent, whether it is left out.

Two judgements stand side by side. `down` is CoreDNS's: more health checks in a row have failed than `max_fails`. `open` is the circuit:
CIRCUIT questions in a row came to nothing, each by silence of SILENCE seconds or by an error; it takes effect within a fraction of a
second, and any reply closes it, that of a health check too. With `max_fails` 0, or without health checks, neither ever happens.
"""

from __future__ import annotations

from typing import Final

SILENCE: Final = 0.15
"""Seconds without any word from a server that owes a reply, after which it counts as silent."""
QUICKEST: Final = 0.02
"""Seconds that a server always has before another one is asked."""
CIRCUIT: Final = 3
"""Questions in a row that come to nothing before a server is left out."""


class Health:
    """Of one server. Times are on the clock of whoever tells them."""

    __slots__ = ("_checked", "_deviation", "_failures", "_mean", "fails", "heard", "max_fails")

    def __init__(self, max_fails: int, *, checked: bool) -> None:
        """`checked` is whether there are health checks."""
        self.max_fails, self._checked = max_fails, checked and max_fails > 0
        self.fails = 0
        """Health checks in a row that failed."""
        self.heard = float("-inf")
        """When it last said something."""
        self._failures = 0
        self._mean, self._deviation = 0.0, SILENCE / 2

    @property
    def down(self) -> bool:
        """Whether more health checks in a row have failed than are allowed."""
        return self._checked and self.fails > self.max_fails

    @property
    def open(self) -> bool:
        """Whether the circuit is open."""
        return self._checked and self._failures >= CIRCUIT

    @property
    def usable(self) -> bool:
        """Whether it is to be asked when there is a choice."""
        return not self._checked or (self._failures < CIRCUIT and self.fails <= self.max_fails)

    @property
    def patience(self) -> float:
        """Seconds after which its reply is later than usual: the mean and four mean deviations, as TCP does it (RFC 6298 §2)."""
        return min(SILENCE, max(QUICKEST, self._mean + 4 * self._deviation))

    def silent(self, since: float) -> bool:
        """Whether nothing has come since a question that was sent then."""
        return self.heard < since

    def heard_of(self, now: float) -> bool:
        """It has said something; whether that ends a time of failures."""
        self.heard = now
        if not self._failures and not self.fails:
            return False
        self.fails = self._failures = 0
        return True

    def answered_within(self, seconds: float) -> None:
        """A reply has taken so long."""
        error = seconds - self._mean
        self._mean += error / 8
        self._deviation += (abs(error) - self._deviation) / 4

    def failed(self) -> None:
        """A question came to nothing."""
        self._failures += 1
