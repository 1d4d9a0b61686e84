"""A cluster whose Services have external addresses, and queries to the plugin."""

from __future__ import annotations

from typing import Any

from svcdns.cluster.index import Index
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice, Namespace, Port, Service
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.k8s_external import External
from svcdns.plugins.kubernetes import PLUGIN, parse
from tests.plugins.kubernetes.fixture import index
from tests.support import world

HTTP = Port("http", "TCP", 80)
DNS = Port("dns", "UDP", 53)

OBJECTS: tuple[ClusterObject, ...] = (
    Namespace("d"),
    Service("d", "web", ("10.0.0.1",), (HTTP, DNS), external_ips=("192.0.2.1", "2001:db8::1")),
    Service("d", "plain", ("10.0.0.2",), (HTTP,)),
    Service("d", "nop", ("10.0.0.3",), external_ips=("192.0.2.3",)),
    Service("d", "lb", ("10.0.0.4",), (HTTP, DNS), external_ips=("lb.example.com",)),
    Service("d", "hl", ("None",), (HTTP,)),
    EndpointSlice("d", "hl-1", "hl", (HTTP,), (Endpoint("10.1.0.1"), Endpoint("fd00::1", "Db-0"))),
    EndpointSlice("d", "plain-1", "plain", (HTTP,), (Endpoint("10.1.0.2"),)),
    Service("hidden", "web", ("10.0.0.9",), (HTTP,), external_ips=("192.0.2.9",)),
)


def plugin(
    lines: str = "",
    found: Index | None = None,
    *,
    kubernetes: str = "ttl 30",
    zones: str = "ext.test in-addr.arpa",
    **fields: Any,
) -> External:
    """Returns the plugin. The same block has *kubernetes*."""
    text = f"kubernetes cluster.local {{\n {kubernetes}\n}}\nk8s_external {zones} {{\n {lines}\n}}"
    cluster = PLUGIN(parse(world.block(text, "kubernetes")), world.environment(found or index(*OBJECTS)))
    return External(world.options("k8s_external", text), world.environment(peers=lambda _: (cluster,), **fields))


def ask(handler: External, name: str, rtype: str = "A", elsewhere: Answer | None = None, **fields: Any) -> Reply:
    """Queries the plugin, and returns the reply. `elsewhere` is the server's answer for names outside the zones."""

    def server(_query: Query) -> Answer:
        return elsewhere or Reply(rcode=3)

    return world.now(
        world.handled(handler, world.query(name, rtype, ask=server, **fields), world.following(Reply(rcode=5)))
    )
