"""The table of accounts: how many more replies each account may have. Does no I/O.

An account is credited continuously, up to the replies of one second. Each reply debits the account, even if it is
dropped. The deficit is at most that of `window` seconds. The table has a fixed size: an account can be in WAYS places,
and replaces the account with the most credit there.
"""

from __future__ import annotations

from array import array
from typing import Final

from svcdns.plugin_api.rate_limit import Verdict

WAYS: Final = 4
"""The number of places that an account may have in the table."""
MIN_ACCOUNTS: Final = 1024
ACCOUNT_SIZE: Final = 17
"""The octets of memory that each place takes: a hash, a time, and a countdown."""
_ROUNDING: Final = 1e-6
"""The seconds by which a balance may be below zero because of the rounding of numbers."""


class Accounts:
    """A table with the balance of each account. The memory is allocated at the first debit."""

    __slots__ = ("_hashes", "_sets", "_slip_ratio", "_slips", "_times", "_window")

    def __init__(self, size: int, window: float, slip_ratio: int) -> None:
        """`size` is the number of accounts, but at least MIN_ACCOUNTS. `window` is in seconds.

        Every `slip_ratio`-th reply over the limit is truncated, and the others are dropped. With 0, all of them are
        dropped.
        """
        self._sets = -(-max(MIN_ACCOUNTS, size) // WAYS)
        self._window, self._slip_ratio = window, slip_ratio
        self._hashes, self._times, self._slips = array("q"), array("d"), bytearray()

    @property
    def octets(self) -> int:
        """Returns the octets of memory that the table takes now."""
        return ACCOUNT_SIZE * len(self._slips)

    def debit(self, account: int, interval: float, now: float) -> Verdict:
        """Debits an account by one reply, and returns what to do with the reply.

        `account` is a hash of 64 bits. The account is credited with one reply every `interval` seconds. `now` is in
        seconds on a monotonic clock.
        """
        hashes, times = self._hashes, self._times
        if not hashes:
            self._begin()
            hashes, times = self._hashes, self._times
        first = account % self._sets * WAYS
        most = max(1.0, interval)
        for at in range(first, first + WAYS):
            if hashes[at] == account:
                break
        else:
            at = min(range(first, first + WAYS), key=times.__getitem__)
            hashes[at], times[at], self._slips[at] = account, now - most, self._slip_ratio
        balance = max(-self._window, min(now - times[at], most) - interval)
        times[at] = now - balance
        if balance >= -_ROUNDING:
            return Verdict.SEND
        left = self._slips[at]
        if left == 1:
            self._slips[at] = self._slip_ratio
            return Verdict.TRUNCATE
        if left:
            self._slips[at] = left - 1
        return Verdict.DROP

    def _begin(self) -> None:
        places = self._sets * WAYS
        self._hashes, self._slips = array("q", bytes(8 * places)), bytearray(places)
        self._times = array("d", [float("-inf")]) * places
