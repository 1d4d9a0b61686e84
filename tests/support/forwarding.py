"""The plugin *forward* with its upstreams, and a clock that the test moves."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from svcdns.eventloop.clock import Clock
from svcdns.eventloop.timer_wheel import TICK, TimerWheel
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.forward import Forward
from svcdns.telemetry.counters import Counters
from svcdns.upstream.server import Server
from svcdns.wire.codes import Rcode
from tests.support import world


class HasPort(Protocol):
    """An object with a port on loopback."""

    port: int


class Forwarding:
    """The plugin *forward* with these upstreams.

    `body` is the body of the directive, `place` the format of an upstream. `clock` replaces the test's clock.
    """

    def __init__(
        self,
        *upstreams: HasPort,
        zone: str = ".",
        body: str = "policy sequential",
        place: str = "127.0.0.1:{}",
        clock: Clock | None = None,
        **fields: Any,
    ) -> None:
        places = " ".join(place.format(upstream.port) for upstream in upstreams)
        self.counters, self.clock = Counters(), world.Clock()
        self.options = read = world.options("forward", f"forward {zone} {places} {{\n{body}\n}}")
        self.kept: dict[Any, Any] = {}

        def kept(key: Any, make: Any) -> Any:
            return self.kept.setdefault(key, None) or self.kept.update({key: make()}) or self.kept[key]

        self.plugin = Forward(
            read, world.environment(counters=self.counters, clock=clock or self.clock, kept=kept, **fields)
        )

    @property
    def servers(self) -> list[Server]:
        """Returns the servers of all upstreams, in the order of the directive."""
        return [one for one in self.kept.values() if isinstance(one, Server)]

    @property
    def timer_wheel(self) -> TimerWheel:
        """Returns the timer wheel that all servers of *forward* share."""
        found: TimerWheel = self.kept["forward", "timer wheel"]
        return found

    async def ask(self, name: str = "a.example.org.", rtype: str = "A", **fields: Any) -> Reply:
        """Queries the plugin, and returns the reply."""
        query = world.query(name, rtype, **fields)
        return await world.soon(self.plugin.handle(query, world.following(Reply(rcode=Rcode.NXDOMAIN))))

    def asking(self, name: str = "a.example.org.", **fields: Any) -> asyncio.Task[Reply]:
        """Queries the plugin in a task, whose result is the reply."""
        return asyncio.ensure_future(self.ask(name, **fields))

    async def turn(self, seconds: float) -> None:
        """Moves the clock forward, and runs the timers that are due."""
        await asyncio.sleep(0)
        self.clock.turn(seconds + 2 * TICK)
        for _ in range(5):
            self.timer_wheel.run_due()
            await asyncio.sleep(0)

    def counted(self, name: str, *labels: str) -> float:
        """Returns the value of a metric."""
        return world.counted(self.counters).get((name, *labels), 0.0)
