"""The `dnstap` plugin: reports queries and replies to dnstap readers; see docs/plugins/dnstap.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from svcdns.plugins.dnstap.data import gather, period, refresh
from svcdns.plugins.dnstap.handler import Dnstap
from svcdns.plugins.dnstap.options import Endpoint, Options, parse

PLUGIN: Final = Dnstap


def sources(options: Options) -> tuple[Endpoint, ...]:
    """Returns the sockets that the control process opens for readers."""
    return tuple(output.endpoint for output in options.outputs if output.endpoint.listens)


async def watch(source: Endpoint, publish: Callable[[Mapping[str, bytes]], Awaitable[None]]) -> None:
    """Serves the readers of a socket until the task is cancelled. Only the control process imports the listener."""
    from svcdns.plugins.dnstap.listener import Listener

    await Listener(source, publish).run()


__all__ = ["PLUGIN", "Dnstap", "Options", "gather", "parse", "period", "refresh", "sources", "watch"]
