"""Calls the taps of a server block. An exception of a tap is logged and counted, as that of a hook."""

from __future__ import annotations

from collections.abc import Sequence

from svcdns.corefile.blocks import ServerKey
from svcdns.plugin_api.contract import Plugin, overrides
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.tap import Tap
from svcdns.wire import names


def guarded(handlers: Sequence[Plugin], key: ServerKey, hooks: HookCaller) -> tuple[Tap, ...]:
    """Returns the taps of the plugins for one key of their block. A call of a tap raises no exception."""
    zone = names.from_text(key.zone).lower()
    return tuple(
        _GuardedTap(tap, handler.name, hooks)
        for handler in handlers
        if overrides(handler, "taps")
        for tap in hooks.call(handler.name, (), handler.taps, zone, key.transport)
    )


class _GuardedTap:
    __slots__ = ("answered", "arrived", "exchanged", "needs_query", "observed")

    def __init__(self, tap: Tap, plugin: str, hooks: HookCaller) -> None:
        self.needs_query = tap.needs_query
        self.arrived = hooks.wrapped(plugin, None, tap.arrived)
        self.answered = hooks.wrapped(plugin, None, tap.answered)
        self.exchanged = hooks.wrapped(plugin, None, tap.exchanged)
        self.observed = hooks.wrapped(plugin, None, tap.observed)
