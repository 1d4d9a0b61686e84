"""The `azure` plugin: answers from zones of Azure DNS; see docs/plugins/azure.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from svcdns.plugins.azure.client import PROVIDER
from svcdns.plugins.azure.options import Source, parse
from svcdns.zones import hosted_zone_refresh
from svcdns.zones.hosted_zone_plugin import HostedZonePlugin
from svcdns.zones.hosted_zone_refresh import Publish
from svcdns.zones.hosted_zones import Options, ZoneSource


class Azure(HostedZonePlugin):
    """Answers queries in the zones at Azure of one server block."""

    name = "azure"


PLUGIN: Final = Azure


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - zones are fetched anew
    """Fetches the zones. Raises CorefileError."""
    return hosted_zone_refresh.gather(PROVIDER, options)


def sources(options: Options) -> tuple[ZoneSource, ...]:
    """Returns the sources that the control process refreshes."""
    return tuple(group.source for group in options.groups if group.source.hosted)


async def watch(source: ZoneSource, publish: Publish) -> None:
    """Fetches the zones of a source again and again, until the task is cancelled."""
    await hosted_zone_refresh.watch(PROVIDER, source, publish)


__all__ = ["PLUGIN", "Azure", "Options", "Source", "gather", "parse", "sources", "watch"]
