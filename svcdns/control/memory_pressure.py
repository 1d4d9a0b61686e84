"""The memory budget: what happens as the container's memory fills up, before the kernel ends everything in it.

Once a second the working set is held against the limit. At SHRINK of it the workers' answer tables and caches are to make do with half
of what they had, again and again while it does not get better; below ALLOW they may grow again, step by step. At RESTART control asks
to be restarted, as it may hold what only a fresh process gives back; the workers answer on meanwhile. Rules: no step before the one
before it can show; a control process that has been restarted stays for a while, so that memory which others hold restarts nothing.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Final

import psutil

from svcdns.eventloop.clock import Clock
from svcdns.process.heap import give_back
from svcdns.process.memory_cgroup import MemoryGroup, Usage
from svcdns.telemetry.counters import Counters, Family, MetricKind

SHRINK, ALLOW, RESTART = 0.85, 0.75, 0.95
"""Parts of the limit."""
STEP: Final = 3.0
"""Seconds from one step down to the next."""
GROW: Final = 30.0
"""Seconds from the last step to a step up."""
STAY: Final = 300.0
"""Seconds that a control process stays after a restart, and after it asked for one."""
LOOKS: Final = 2
"""So many looks in a row must find too much for a restart."""
LEAST: Final = 1 / 8
"""Tables and caches keep this part of their usual size, whatever comes."""
_LITTLE: Final = 4
"""Control is not what fills the memory where it holds less than this part of it."""

LIMIT: Final = Family("svcdns_memory_limit_bytes", MetricKind.GAUGE, "What the container's memory is limited to.", uniform=True)
WORKING_SET: Final = Family(
    "svcdns_memory_working_set_bytes", MetricKind.GAUGE, "The container's memory without page cache that was not used lately.", uniform=True
)
PRESSURE: Final = Family(
    "svcdns_memory_pressure_total", MetricKind.COUNTER, "Steps because of the memory limit: shrink, allow, restart.", ("action",)
)
SHARE: Final = Family(
    "svcdns_memory_share", MetricKind.GAUGE, "The part of their usual size that answer tables and caches may have.", uniform=True
)

log = logging.getLogger("svcdns")


class MemoryBudget:
    """Looks at the memory, and says what is to be done."""

    def __init__(
        self,
        counters: Counters,
        clock: Clock,
        allow: Callable[[float], None],
        restart: Callable[[], None],
        own: Callable[[], int],
        *,
        again: bool = False,
        group: MemoryGroup | None = None,
    ) -> None:
        """`allow` tells the workers what part of their usual size tables and caches may have, `restart` asks for control's restart, `own`
        gives the octets that control alone holds. `again` means that this control process is not the first one."""
        self._counters, self._clock, self._allow, self._restart, self._own = counters, clock, allow, restart, own
        self._group = group or MemoryGroup()
        self._share = self._left()
        counters.set(counters.cell(SHARE), self._share)
        allow(self._share)
        self._stepped = clock() - (0.0 if again else GROW)
        self._stays_until = clock() + (STAY if again else 0.0)
        self._full = 0
        self._unreadable = False

    def _left(self) -> float:
        """The share as the control before this one left it: by its steps, as counters outlive a process and gauges do not."""
        down, up = (self._counters.values[self._counters.cell(PRESSURE, action)] for action in ("shrink", "allow"))
        return float(max(LEAST, 0.5 ** max(0.0, down - up)))

    def look(self, *, serving: bool) -> None:
        """Looks, and takes the step that is due; called about once a second. Only while `serving` a restart is asked for."""
        usage = self._group.usage()
        if usage is None:
            if not self._unreadable:
                self._unreadable = True
                log.debug("memory: no limit to keep to can be read")
            return
        self._counters.set(self._counters.cell(LIMIT), usage.limit)
        self._counters.set(self._counters.cell(WORKING_SET), usage.working_set)
        self._resize(usage)
        self._full = self._full + 1 if usage.working_set >= RESTART * usage.limit else 0
        if self._full >= LOOKS and serving and self._clock() >= self._stays_until:
            self._start_anew(usage)

    def _resize(self, usage: Usage) -> None:
        now = self._clock()
        if usage.working_set >= SHRINK * usage.limit:
            if self._share > LEAST and now - self._stepped >= STEP:
                self._set(self._share / 2, "shrink", now)
                log.warning("%s: answer tables and caches shrink to %s of their usual size", _shown(usage), _part(self._share))
        elif usage.working_set < ALLOW * usage.limit and self._share < 1 and now - self._stepped >= GROW:
            self._set(self._share * 2, "allow", now)
            log.info("%s: answer tables and caches may have %s of their usual size", _shown(usage), _part(self._share))

    def _set(self, share: float, action: str, now: float) -> None:
        self._share, self._stepped = share, now
        self._counters.set(self._counters.cell(SHARE), share)
        self._counters.count(PRESSURE, action)
        self._allow(share)
        if action == "shrink":
            gc.collect()
            give_back()

    def _start_anew(self, usage: Usage) -> None:
        self._stays_until = self._clock() + STAY
        own = self._own()
        doubt = "; that is little of it, so what fills the memory is elsewhere" if own * _LITTLE < usage.working_set else ""
        log.error("%s: control, which holds %s alone, is restarted, workers answer on%s", _shown(usage), _mib(own), doubt)
        self._counters.count(PRESSURE, "restart")
        self._restart()


def own_memory() -> int:
    """Octets that this process holds alone."""
    return int(psutil.Process().memory_full_info().uss)


def _shown(usage: Usage) -> str:
    return f"memory: {_mib(usage.working_set)} of {_mib(usage.limit)} in use ({usage.working_set * 100 // max(1, usage.limit)} %)"


def _mib(octets: int) -> str:
    return f"{octets / 2**20:.0f} MiB"


def _part(share: float) -> str:
    return "all" if share >= 1 else f"1/{round(1 / share)}"
