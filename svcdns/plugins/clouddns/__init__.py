"""The `clouddns` plugin: answers from managed zones of Google Cloud DNS; see docs/plugins/clouddns.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from svcdns.plugins.clouddns.client import PROVIDER
from svcdns.plugins.clouddns.options import Source, parse
from svcdns.zones import hosted_zone_refresh
from svcdns.zones.hosted_zone_plugin import HostedZonePlugin
from svcdns.zones.hosted_zone_refresh import Publish
from svcdns.zones.hosted_zones import Options, ZoneSource


class CloudDns(HostedZonePlugin):
    """Answers queries in the managed zones of one server block."""

    name = "clouddns"


PLUGIN: Final = CloudDns


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - zones are fetched anew
    """Fetches the zones. Raises CorefileError."""
    return hosted_zone_refresh.gather(PROVIDER, options)


def sources(options: Options) -> tuple[ZoneSource, ...]:
    """Returns the sources that the control process refreshes."""
    return tuple(group.source for group in options.groups if group.source.hosted)


async def watch(source: ZoneSource, publish: Publish) -> None:
    """Fetches the zones of a source again and again, until the task is cancelled."""
    await hosted_zone_refresh.watch(PROVIDER, source, publish)


__all__ = ["PLUGIN", "CloudDns", "Options", "Source", "gather", "parse", "sources", "watch"]
