"""As long as no dependency of a reply has changed, the plugin would give the same reply. The answer table relies on
this rule.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcdns.cluster.changes import Begin, Change, Complete, Dependency, Gone, Kind, Put
from svcdns.cluster.index import Index
from svcdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Pod, Port, Service
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.kubernetes import Kubernetes
from tests.plugins.kubernetes.fixture import ask, plugin
from tests.support import world

NAMES = st.sampled_from("ab")
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])
PORTS = st.lists(
    st.sampled_from([Port("p", "TCP", 1), Port("", "UDP", 2), Port()]), min_size=1, max_size=2, unique=True
).map(tuple)
ENDPOINTS = st.lists(
    st.builds(Endpoint, ADDRESSES, st.sampled_from(["", "h"]), st.sampled_from(["", "t"]), st.sampled_from(["", "z"])),
    max_size=3,
).map(tuple)
SERVICES = st.builds(
    Service,
    NAMES,
    NAMES,
    st.sampled_from([("None",), ("10.0.0.1",), ("10.0.0.2", "fd00::1"), ()]),
    PORTS,
    st.sampled_from([None, None, "a.a.svc.cluster.local", "b.a.svc.cluster.local", "out.example"]),
)
OBJECTS = st.one_of(
    SERVICES,
    st.builds(EndpointSlice, NAMES, NAMES, NAMES, PORTS, ENDPOINTS),
    st.builds(Namespace, NAMES),
    st.builds(Pod, NAMES, NAMES, ADDRESSES),
)
CHANGES = st.one_of(
    OBJECTS.map(Put),
    OBJECTS.map(lambda o: Gone(Kind(type(o).__name__), o.namespace, o.name)),
    st.sampled_from(
        [Begin(Kind.SERVICE), Complete(Kind.SERVICE), Begin(Kind.ENDPOINT_SLICE), Complete(Kind.ENDPOINT_SLICE)]
    ),
)
QUERIES = [
    (f"{name}.cluster.local.", rtype)
    for name in (
        "a.a.svc", "b.a.svc", "a.b.svc", "h.a.a.svc", "10-0-0-1.a.a.svc", "_p._tcp.a.a.svc", "a.svc", "10-0-0-1.a.pod", "fd00--1.a.pod",
        "z.pin._zone.a.a.svc", "z.prefer._zone.a.a.svc", "t.a.a.svc", "ns.dns",
    )
    for rtype in ("A", "AAAA", "SRV", "CNAME", "TXT", "MX")
] + [("1.0.0.10.in-addr.arpa.", "PTR"), ("2.0.0.10.in-addr.arpa.", "PTR"), ("cluster.local.", "NS")]  # fmt: skip
OPTIONS = st.sampled_from(
    ["pods verified", "pods insecure\nignore empty_service", "namespaces a", "zonal\nendpoint_pod_names", "fallthrough"]
)


def reply_now(handler: Kubernetes, name: str, rtype: str) -> Reply:
    return ask(handler, name, rtype, following=world.following(Reply(rcode=9, lifetime=float("inf"))))


@settings(max_examples=120, deadline=None)
@given(OPTIONS, st.lists(CHANGES, max_size=12), st.lists(CHANGES, min_size=1, max_size=6))
@pytest.mark.slow
def test_replies_with_unchanged_dependencies_are_right(options: str, before: list[Change], after: list[Change]) -> None:
    index = Index((Kind.SERVICE, Kind.ENDPOINT_SLICE))
    handler = plugin(
        options,
        index,
        "kubernetes cluster.local in-addr.arpa {\n%s\n}",
        local_addresses=("10.0.0.1",),
    )
    for change in before:
        index.apply(change)
    replies = {query: reply_now(handler, *query) for query in QUERIES}
    affected: set[Dependency] = set()
    for change in after:
        affected |= index.apply(change)
    for query, reply in replies.items():
        if affected.isdisjoint(reply.dependencies):
            assert world.summary(reply_now(handler, *query)) == world.summary(reply), query
