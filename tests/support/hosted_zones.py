"""A provider of hosted zones whose zones are texts of the test, and a plugin with the data that control makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from svcdns.corefile.blocks import Position
from svcdns.plugin_api.query import Answer
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from svcdns.wire.zone_text import read
from svcdns.zones import hosted_zone_refresh
from svcdns.zones.hosted_zone_plugin import HostedZonePlugin
from svcdns.zones.hosted_zone_refresh import Fetched, Provider
from svcdns.zones.hosted_zones import HostedZone, Options, ProviderError, ZoneGroup, ZoneSource
from tests.support import world

WHERE = Position("Corefile", 2, 1)
SOA = "@ 60 IN SOA ns root 1 2 3 4 30\n"
PUBLIC = f"""{SOA}@ 60 IN NS ns
ns 60 IN A 192.0.2.53
www 60 IN A 192.0.2.1
alias 60 IN CNAME www
out 60 IN CNAME host.example.net.
*.wild 60 IN A 192.0.2.2
a.b 60 IN TXT "deep"
sub 60 IN NS ns.sub
ns.sub 60 IN A 192.0.2.3
"""


@dataclass
class Cloud:
    """The zones of a provider, by identifier, as zone text. An identifier in `failing` cannot be fetched."""

    zones: dict[str, str]
    failing: dict[str, str] = field(default_factory=dict)
    unreachable: str = ""
    warnings: list[str] = field(default_factory=list)
    fetches: int = 0

    def connect(self, _source: ZoneSource) -> Cloud:
        if self.unreachable:
            raise ProviderError(self.unreachable)
        return self

    def check(self, hosted: HostedZone) -> None:
        if hosted.ident not in self.zones and hosted.ident not in self.failing:
            raise ProviderError(f"no zone {hosted.ident}")

    def fetch(self, hosted: HostedZone) -> Fetched:
        self.fetches += 1
        if hosted.ident in self.failing:
            raise ProviderError(self.failing[hosted.ident])
        return Fetched(read(self.zones[hosted.ident], names.from_text(hosted.zone), "zone"), self.warnings)

    def provider(self, package: str = "asyncio") -> Provider:
        return Provider("cloud", package, self.connect, (), "not connected: ", "not checked: ", "not fetched: ")


class CloudPlugin(HostedZonePlugin):
    """A plugin for zones of the provider."""

    name = "cloud"
    before = "kubernetes"


def group(*zones: str, fallthrough: tuple[str, ...] = (), refresh: float = 60.0) -> ZoneGroup:
    """Returns a directive. Each of `zones` has the form `NAME:IDENTIFIER`."""
    pairs = [zone.split(":") for zone in zones]
    return ZoneGroup(ZoneSource(tuple(HostedZone(name, ident) for name, ident in pairs), refresh), fallthrough, WHERE)


class Worker:
    """A plugin in a worker."""

    def __init__(self, cloud: Cloud, *groups: ZoneGroup) -> None:
        self.options = Options(groups)
        self.data: dict[str, bytes] = hosted_zone_refresh.gather(cloud.provider(), self.options)
        self.calls: dict[str, Callable[[bytes], None]] = {}
        self.invalidated: list[Any] = []
        self.environment = world.environment(
            data=lambda _plugin, key: self.data.get(key),
            on_data=lambda _plugin, key, call: self.calls.update({key: call}),
            invalidate=self.invalidated.extend,
        )
        self.plugin = CloudPlugin(self.options, self.environment)

    def take(self, data: Mapping[str, bytes]) -> list[Any]:
        """Passes data to the plugin, as control does if they have changed. Returns the dependencies that changed."""
        self.invalidated.clear()
        for key, payload in data.items():
            if payload != self.data.get(key):
                self.data[key] = payload
                self.calls[key](payload)
        return self.invalidated

    def ask(self, name: str, rtype: str = "A", elsewhere: Reply | None = None) -> Reply:
        """Returns the reply. `elsewhere` is the server's reply for aliases that leave the zone."""

        def server(query: Any) -> Answer:
            return elsewhere or rcode_only(Rcode.REFUSED)

        query = world.query(name, rtype, ask=server)
        return world.now(world.handled(self.plugin, query, world.following(Reply(rcode=Rcode.REFUSED))))
