"""The cluster of docs/behaviour/cluster-names.md#examples, and queries to the plugin."""

from __future__ import annotations

from typing import Any

from svcdns.cluster.changes import Complete, Kind, Put
from svcdns.cluster.index import Index
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice, Namespace, Port, Service
from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.kubernetes import PLUGIN, Kubernetes, parse
from tests.support import world

HTTP = Port("http", "TCP", 80)
HTTP_8080 = Port("http", "TCP", 8080)

OBJECTS: tuple[ClusterObject, ...] = (
    Namespace("d"),
    Service("d", "web", ("10.0.0.1",), (HTTP, Port("", "TCP", 81))),
    Service("d", "dual", ("10.0.0.2", "fd00::2"), (HTTP,)),
    Service("d", "nop", ("10.0.0.3",)),
    Service("d", "hl", ("None",)),
    Service("d", "empty", ("None",)),
    Service("d", "ext", (), external_name="www.example.com"),
    Service("d", "inside", (), external_name="web.d.svc.cluster.local"),
    Service("d", "self", (), external_name="self.d.svc.cluster.local"),
    Service("d", "dead", (), external_name="nothing.d.svc.cluster.local"),
    Service("d", "literal", (), external_name="192.0.2.1"),
    Service("hidden", "web", ("10.0.0.9",)),
    EndpointSlice(
        "d", "hl-1", "hl", (HTTP_8080,), (Endpoint("172.16.0.2"), Endpoint("172.16.0.3", "db-0"), Endpoint("fd00::1"))
    ),
    EndpointSlice("d", "web-1", "web", (HTTP,), (Endpoint("172.16.0.9", target="web-abc"),)),
    EndpointSlice("d", "fqdn-1", "nop", (HTTP,), ()),
)
CORE = "kubernetes cluster.local in-addr.arpa ip6.arpa {\n pods insecure\n %s\n}"


def index(*objects: ClusterObject, synced: bool = True) -> Index:
    """Returns an index of these objects."""
    out = Index({Kind.SERVICE})
    for item in objects or OBJECTS:
        out.apply(Put(item))
    if synced:
        out.apply(Complete(Kind.SERVICE))
    return out


def plugin(options: str = "", found: Index | None = None, corefile: str = CORE, **fields: Any) -> Kubernetes:
    """Returns the plugin. `options` are added to its directive."""
    block = world.block(corefile % options if "%s" in corefile else corefile, "kubernetes")
    return PLUGIN(parse(block), world.environment(found or index(), **fields))


def ask(handler: Kubernetes, name: str, rtype: str = "A", following: Following | None = None, **fields: Any) -> Reply:
    """Queries the plugin, and returns its reply. The plugin also answers the queries that it sends to the server."""

    def again(query: Query) -> Answer:
        return world.handled(handler, query, following or world.following())

    return world.now(
        world.handled(handler, world.query(name, rtype, **{"ask": again, **fields}), following or world.following())
    )
