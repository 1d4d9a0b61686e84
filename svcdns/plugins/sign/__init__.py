"""The `sign` plugin: signs zone files, which *file* or *auto* serve; see docs/plugins/sign.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from svcdns.plugins.sign.handler import Sign
from svcdns.plugins.sign.options import Options, ZoneToSign, parse

PLUGIN: Final = Sign


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Checks the key files, and begins a check of each zone that is already watched. Raises CorefileError.

    Returns those data in `known` that belong to the zones.
    """
    from svcdns.plugins.sign import key_files, state, watcher  # only control reads keys

    for zone in options.zones:
        key_files.found(zone)
    for zone in options.zones:
        watcher.wake(zone)
    keys = {state.key(zone) for zone in options.zones}
    return {key: payload for key, payload in known.items() if key in keys}


def sources(options: Options) -> tuple[ZoneToSign, ...]:
    """Returns the zones that the control process signs."""
    return options.zones


async def watch(source: ZoneToSign, publish: Callable[[Mapping[str, bytes]], Awaitable[None]]) -> None:
    """Keeps a zone signed until the task is cancelled. Only the control process signs."""
    from svcdns.plugins.sign.watcher import Watcher

    await Watcher(source, publish).run()


__all__ = ["PLUGIN", "Options", "Sign", "ZoneToSign", "gather", "parse", "sources", "watch"]
