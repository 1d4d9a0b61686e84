"""The upstreams of a forward rule in the order of its policy, and the limits that all exchanges of the rule share.

This module sends nothing; see `svcdns.plugins.forward.exchange`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from svcdns.eventloop.timer_wheel import TimerWheel
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.options import Rule
from svcdns.plugins.forward.rebind_guard import RebindGuard
from svcdns.upstream.server import Server
from svcdns.wire.codes import Rcode

MIN_BUDGET: Final = 5.0
"""The longest time for an exchange, in seconds, unless `read_timeout` is longer."""
MAX_LAST_RESORTS: Final = 256
"""The most exchanges at a time that query an upstream although every upstream is down."""
ORDINARY_QUERIES: Final = 3
"""The most queries to upstreams in one exchange, unless upstreams fail or are silent."""
MAX_QUERIES: Final = 32
"""The most queries to upstreams in one exchange, whatever the options state."""
HEDGED_SHARE: Final = 0.1
"""The number of extra queries to other upstreams that each exchange adds to the budget (`HedgeBudget`)."""
MAX_HEDGES_SAVED: Final = 20.0
"""The largest number of unused extra queries in the budget (`HedgeBudget`)."""


class HedgeBudget:
    """Limits the additional queries that are sent because an upstream is slow.

    The limit is HEDGED_SHARE of the number of exchanges. At most MAX_HEDGES_SAVED unused queries are saved.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_HEDGES_SAVED

    def add_exchange(self) -> None:
        """Adds HEDGED_SHARE to the budget. Call it once for each exchange."""
        left = self._left + HEDGED_SHARE
        self._left = left if left < MAX_HEDGES_SAVED else MAX_HEDGES_SAVED

    def spend(self) -> bool:
        """Takes one additional query from the budget. Returns False if the budget is empty."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class UpstreamGroup:
    """The servers of a rule, with the policy, the limits and the counters of its exchanges."""

    def __init__(
        self,
        rule: Rule,
        servers: Sequence[Server],
        cells: Cells,
        timer_wheel: TimerWheel,
        rebind_guard: RebindGuard | None = None,
    ) -> None:
        self.rule, self.servers, self.cells, self.rebind_guard = rule, servers, cells, rebind_guard
        self.timer_wheel, self.clock = timer_wheel, timer_wheel.clock
        attempts = rule.max_connect_attempts
        self.max_attempts = 2 * len(servers) if attempts < 0 else attempts or MAX_QUERIES
        self.hedge_budget = HedgeBudget()
        self.in_policy_order = _policy(rule.policy)
        """A function that returns a new list of the servers, in the order in which an exchange queries them.

        Call it only for more than one server.
        """
        self.sequential = rule.policy == "sequential"
        self.failover = rule.failover | {Rcode.SERVFAIL, Rcode.REFUSED}
        self.budget = max(MIN_BUDGET, rule.read_timeout)
        self.last_resorts = 0
        """The number of running exchanges that query an upstream although every upstream is down."""

    @property
    def unavailable(self) -> bool:
        """Returns True if no upstream may be queried, not even as a last resort.

        Call it only if every upstream is down.
        """
        if self.rule.failfast and all(server.health.down for server in self.servers):
            return True
        return self.last_resorts >= MAX_LAST_RESORTS or not self.servers

    @property
    def is_down(self) -> bool:
        """Returns True if every upstream is down."""
        return not any(server.health.usable for server in self.servers)

    def has_only(self, label: str) -> bool:
        """Returns True if the server with this label is the only one in the group."""
        return bool(label) and all(server.label == label for server in self.servers)


def _policy(name: str) -> Callable[[Sequence[Server]], list[Server]]:
    start = 0

    def round_robin(servers: Sequence[Server]) -> list[Server]:
        nonlocal start
        start = (start + 1) % max(1, len(servers))
        return [*servers[start:], *servers[:start]]

    def shuffled(servers: Sequence[Server]) -> list[Server]:
        return random.sample(servers, len(servers))

    policies: dict[str, Callable[[Sequence[Server]], list[Server]]] = {
        "random": shuffled,
        "round_robin": round_robin,
        "sequential": list,
    }
    return policies[name]
