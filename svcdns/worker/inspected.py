"""The worker as the functions for tools see it (`svcdns.worker.calls`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.contract import Plugin
from svcdns.serving.listeners import Listeners


class Inspected(Protocol):
    """The worker in which a function runs."""

    listeners: Listeners
    clock: Clock

    def plugins_with(self, hook: str) -> list[Plugin]:
        """Returns the plugins that override a hook."""
        ...

    async def in_steps(self, steps: Iterator[None]) -> None:
        """Runs all steps, and other work between them."""
        ...
