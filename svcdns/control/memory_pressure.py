"""Reduces memory when the container approaches its memory limit.

Control compares the container's working set with the limit once a second. SHRINK, ALLOW and RESTART are fractions of
the limit. At SHRINK, the workers halve their answer tables and caches. Below ALLOW, the tables and caches grow again.
At RESTART, control requests its own restart. Rules:

1. Steps have a minimum interval.
2. A restarted control process requests no restart for STAY seconds.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Final

import psutil

from svcdns.eventloop.clock import Clock
from svcdns.log_line import LogLine
from svcdns.process.heap import release_free_memory
from svcdns.process.memory_cgroup import MemoryGroup, Usage
from svcdns.telemetry.counters import Counters, Family, MetricKind

SHRINK, ALLOW, RESTART = 0.85, 0.75, 0.95
"""Fractions of the memory limit; see the module's docstring."""
STEP: Final = 3.0
"""Minimum seconds from one step to a step that shrinks tables and caches."""
GROW: Final = 30.0
"""Minimum seconds from one step to a step that lets tables and caches grow."""
STAY: Final = 300.0
"""Seconds after a restart, or after a request for one, in which no restart is requested."""
CHECKS: Final = 2
"""Consecutive checks that must find RESTART of the limit in use before a restart is requested."""
SMALLEST: Final = 1 / 8
"""The least share of their usual size to which tables and caches shrink."""
_PART: Final = 4
"""If control holds less than 1/_PART of the working set, the log line says that other processes hold the most."""

LIMIT: Final = Family("svcdns_memory_limit_bytes", MetricKind.GAUGE, "Memory limit of the container.", uniform=True)
WORKING_SET: Final = Family(
    "svcdns_memory_working_set_bytes",
    MetricKind.GAUGE,
    "Memory of the container without inactive page cache, as the kubelet counts it.",
    uniform=True,
)
PRESSURE: Final = Family(
    "svcdns_memory_pressure_total",
    MetricKind.COUNTER,
    "Actions taken because memory came close to its limit, or had room again.",
    ("action",),
)
SHARE: Final = Family(
    "svcdns_memory_share",
    MetricKind.GAUGE,
    "Present size limit of answer tables and caches, as a share of the usual limit.",
    uniform=True,
)

log = logging.getLogger("svcdns")


class MemoryBudget:
    """Keeps the container below its memory limit: sets the size of tables and caches, and requests restarts of
    control.
    """

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
        """`allow` informs the workers how large tables and caches may be, relative to their usual size.

        `restart` requests the restart of control. `own` returns the octets of control's private memory. If `again` is
        true, an earlier control process has run.
        """
        self._counters, self._clock, self._allow, self._restart, self._own = counters, clock, allow, restart, own
        self._group = group or MemoryGroup()
        self._share = self._last_share()
        counters.set(counters.cell(SHARE), self._share)
        allow(self._share)
        self._stepped = clock() - (0.0 if again else GROW)
        self._stays_until = clock() + (STAY if again else 0.0)
        self._full = 0
        self._unreadable = False

    def _last_share(self) -> float:
        """Returns the share that an earlier control process had set, from the counters of its steps."""
        down, up = (self._counters.values[self._counters.cell(PRESSURE, action)] for action in ("shrink", "allow"))
        return float(max(SMALLEST, 0.5 ** max(0.0, down - up)))

    def check(self, *, serving: bool) -> None:
        """Compares memory with the limit. If necessary, changes the size of tables and caches, or requests a restart.

        Call it once a second. `serving` is True while DNS is served; a restart is requested only then.
        """
        usage = self._group.usage()
        if usage is None:
            if not self._unreadable:
                self._unreadable = True
                log.debug("memory: no limit can be read")
            return
        self._counters.set(self._counters.cell(LIMIT), usage.limit)
        self._counters.set(self._counters.cell(WORKING_SET), usage.working_set)
        self._resize(usage)
        self._full = self._full + 1 if usage.working_set >= RESTART * usage.limit else 0
        if self._full >= CHECKS and serving and self._clock() >= self._stays_until:
            self._request_restart(usage)

    def _resize(self, usage: Usage) -> None:
        now = self._clock()
        if usage.working_set >= SHRINK * usage.limit:
            if self._share > SMALLEST and now - self._stepped >= STEP:
                self._set(self._share / 2, "shrink", now)
                log.warning(LogLine("memory: answer tables and caches shrink", share=self._share, **_fields(usage)))
        elif usage.working_set < ALLOW * usage.limit and self._share < 1 and now - self._stepped >= GROW:
            self._set(self._share * 2, "allow", now)
            log.info(LogLine("memory: answer tables and caches may grow", share=self._share, **_fields(usage)))

    def _set(self, share: float, action: str, now: float) -> None:
        self._share, self._stepped = share, now
        self._counters.set(self._counters.cell(SHARE), share)
        self._counters.count(PRESSURE, action)
        self._allow(share)
        if action == "shrink":
            gc.collect()
            release_free_memory()

    def _request_restart(self, usage: Usage) -> None:
        self._stays_until = self._clock() + STAY
        own = self._own()
        others = own * _PART < usage.working_set
        log.error(
            LogLine(
                "memory: control is restarted; workers go on",
                private_mib=_mib(own), others_have_most=others, **_fields(usage),
            )
        )  # fmt: skip
        self._counters.count(PRESSURE, "restart")
        self._restart()


def own_memory() -> int:
    """Returns the octets of this process's private memory."""
    return int(psutil.Process().memory_full_info().uss)


def _fields(usage: Usage) -> dict[str, int]:
    percent = usage.working_set * 100 // max(1, usage.limit)
    return {"used_mib": _mib(usage.working_set), "limit_mib": _mib(usage.limit), "used_percent": percent}


def _mib(octets: int) -> int:
    return round(octets / 2**20)
