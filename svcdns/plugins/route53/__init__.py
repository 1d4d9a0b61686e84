"""The `route53` plugin: answers from hosted zones of Amazon Route 53; see docs/plugins/route53.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from svcdns.plugins.route53.client import PROVIDER
from svcdns.plugins.route53.options import Source, parse
from svcdns.telemetry.logging import plugin_logger
from svcdns.zones import hosted_zone_refresh
from svcdns.zones.hosted_zone_plugin import HostedZonePlugin
from svcdns.zones.hosted_zone_refresh import Publish
from svcdns.zones.hosted_zones import Options, ZoneSource


class Route53(HostedZonePlugin):
    """Answers queries in the hosted zones of one server block."""

    name = "route53"


PLUGIN: Final = Route53
DEPRECATED: Final = (
    "Save aws_access_key in Corefile has been deprecated, please use other authentication methods instead"
)


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - zones are fetched anew
    """Fetches the zones. Raises CorefileError."""
    if any(isinstance(group.source, Source) and group.source.access_key for group in options.groups):
        plugin_logger(Route53.name).warning(DEPRECATED)
    return hosted_zone_refresh.gather(PROVIDER, options)


def sources(options: Options) -> tuple[ZoneSource, ...]:
    """Returns the sources that the control process refreshes."""
    return tuple(group.source for group in options.groups if group.source.hosted)


async def watch(source: ZoneSource, publish: Publish) -> None:
    """Fetches the zones of a source again and again, until the task is cancelled."""
    await hosted_zone_refresh.watch(PROVIDER, source, publish)


__all__ = ["PLUGIN", "Options", "Route53", "Source", "gather", "parse", "sources", "watch"]
