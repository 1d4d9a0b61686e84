"""Calling the hooks of plugins. What a hook raises is counted and logged with the plugin's name, and ends nothing else.

Everything that the core calls of a plugin besides `handle` goes through a `HookCaller`. What `handle` raises reaches
the responder, which answers SERVFAIL and reports it by `failed`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from svcdns.plugin_api.reuse import CORE, NO_ANSWER, plugin_of, running
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.telemetry.logging import ROOT, plugin_logger

PANICS: Final = Family(
    "coredns_panics_total", MetricKind.COUNTER, "Number of failures inside plugins that the server recovered from."
)

P = ParamSpec("P")
T = TypeVar("T")


class HookCaller:
    """Calls the hooks of plugins in one process."""

    __slots__ = ("_counters",)

    def __init__(self, counters: Counters) -> None:
        """Failures are counted there."""
        self._counters = counters

    def call(self, plugin: str, default: T, hook: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the hook returns; `default` where it raises an exception."""
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
        """The hook as a function that never raises: it returns `default` where the hook raises an exception."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.call(plugin, default, hook, *args, **kwargs)

        return call

    def failed(self, error: BaseException, where: str, plugin: str = "") -> None:
        """Counts and logs a failure. `plugin` is who raised it, empty for the one that the exception itself names."""
        plugin = plugin or plugin_of(error)
        self._counters.count(PANICS)
        log = plugin_logger(plugin) if plugin else logging.getLogger(ROOT)
        log.error("Recovered from a failure in %s", where, exc_info=error)
