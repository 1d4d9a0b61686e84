"""Calls the hooks of plugins. An exception of a hook is counted, and logged with the plugin's name.

The core calls every hook except `handle` through a `HookCaller`. An exception of `handle` reaches the responder, which
answers SERVFAIL and calls `failed`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from svcdns.log_line import LogLine
from svcdns.plugin_api.errors import ContractError
from svcdns.plugin_api.reuse import CORE, NO_ANSWER, plugin_of, running
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.telemetry.logging import ROOT, LineLimit, plugin_logger

PANICS: Final = Family(
    "coredns_panics_total", MetricKind.COUNTER, "Number of failures inside plugins that the server recovered from."
)

P = ParamSpec("P")
T = TypeVar("T")


class HookCaller:
    """Calls the hooks of plugins in one process."""

    __slots__ = ("_counters", "_limits")

    def __init__(self, counters: Counters) -> None:
        """Exceptions of hooks are counted in `counters`."""
        self._counters = counters
        self._limits: dict[str, LineLimit] = {}
        """The limit of the log lines about failures of a plugin, by its name."""

    def call(self, plugin: str, default: T, hook: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `hook` and returns its result, or `default` if `hook` raises an exception."""
        before, last = running.current, running.last
        running.current, running.last = CORE, NO_ANSWER
        try:
            return hook(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a plugin's failure must not end the process
            self.failed(error, f"its hook {getattr(hook, '__name__', hook)}", plugin)
            return default
        finally:
            running.current, running.last = before, last

    def wrapped(self, plugin: str, default: T, hook: Callable[P, T]) -> Callable[P, T]:
        """Returns a function that calls `hook`, and returns `default` if the hook raises an exception."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.call(plugin, default, hook, *args, **kwargs)

        return call

    def failed(self, error: BaseException, where: str, plugin: str = "") -> None:
        """Counts and logs an exception of a plugin.

        If `plugin` is empty, the name of the plugin comes from the exception's notes. The number of log lines is
        limited (`LineLimit`).
        """
        plugin = plugin or plugin_of(error)
        self._counters.count(PANICS)
        limit = self._limits.setdefault(plugin, LineLimit())
        if isinstance(error, ContractError):  # its text says what to correct, and names the plugin
            line = LogLine("Recovered from a failure", where=where, error=error)
            limit.log(logging.getLogger(ROOT), logging.ERROR, line)
        else:
            log = plugin_logger(plugin) if plugin else logging.getLogger(ROOT)
            limit.log(log, logging.ERROR, LogLine("Recovered from a failure", where=where), error=error)
