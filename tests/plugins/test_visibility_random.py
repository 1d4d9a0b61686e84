"""The plugin *visibility* with random clusters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcdns.cluster.objects import (
    ClusterObject,
    EndpointSlice,
    ImportedSlice,
    Namespace,
    Pod,
    Service,
    ServiceImport,
)
from tests.plugins.test_visibility import transferred
from tests.support import clusters
from tests.support.chains import Chains

RULES = (
    "own",
    "own\nshared labels shared",
    "own\nshared service d/web e/kube-dns\ndefault namespace svc",
    "allow labels team=blue see labels shared\nallow net 10.244.0.0/24 see namespace e\nown",
    "shared namespace d\ndefault all",
    "allow pod_labels app=web see namespace e\nallow namespace d pod_labels app see all",
)
ZONES = ("cluster.local.", "set.local.")
NAMES = [*clusters.names(ZONES), *(f"{s}.{n}.ext.test." for s in clusters.SERVICES for n in clusters.NAMESPACES)]
RANDOM = """
. {
    %s
    k8s_external ext.test
    transfer {
        to *
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa set.local {
        multicluster set.local
        pods %s
    }
    forward . 192.0.2.53
}
"""


def labelled(rng: Random, state: Iterable[ClusterObject]) -> Iterator[ClusterObject]:
    """Yields the objects, with random labels of Namespaces. Random Pods use the host network."""
    for one in state:
        if isinstance(one, Namespace):
            labels = (("shared", "x"),) if rng.random() < 0.4 else ()
            yield Namespace(one.name, labels=(*labels, ("team", rng.choice(("blue", "red")))))
        elif isinstance(one, Pod):
            labels = (("app", rng.choice(("web", "db"))),) if rng.random() < 0.7 else ()
            yield Pod(one.namespace, one.name, one.ip, host_network=rng.random() < 0.2, labels=labels)
        else:
            yield one


def is_visible(rules: str, objects: list[ClusterObject], client: str, namespace: str, service: str) -> bool:
    """Computes whether the rules in `RULES` show a Service to the client, without using the plugin.

    If `service` is empty, computes whether the client may see any Service in the namespace.
    """
    labels = {one.name: dict(one.labels) for one in objects if isinstance(one, Namespace)}
    pods = [one for one in objects if isinstance(one, Pod) and one.ip == client]
    own = pods[0].namespace if len(pods) == 1 and not pods[0].host_network else ""
    there = labels.get(namespace, {})
    if rules == "own":
        return namespace == own
    if rules == RULES[1]:
        return namespace == own or "shared" in there
    if rules == RULES[2]:
        named = f"{namespace}/{service}" in ("d/web", "e/kube-dns")
        return namespace == own or named or (not own and namespace == "svc")
    if rules == RULES[3]:
        blue = labels.get(own, {}).get("team") == "blue" and "shared" in there
        return blue or namespace == own or (client.startswith("10.244.0.") and namespace == "e")
    if rules == RULES[4]:
        return namespace == "d" or not own
    app = dict(pods[0].labels).get("app") if own else None
    return (app == "web" and namespace == "e") or (app is not None and own == "d")


def without_hidden(rules: str, objects: list[ClusterObject], client: str) -> Iterator[ClusterObject]:
    """Yields the objects that the client may see. A Namespace stays if the client may see a Service in it."""
    for one in objects:
        if isinstance(one, Namespace):
            if any(is_visible(rules, objects, client, one.name, service) for service in ("", "web", "kube-dns")):
                yield one
        elif isinstance(one, EndpointSlice | ImportedSlice):
            if is_visible(rules, objects, client, one.namespace, one.service):
                yield one
        else:
            service = one.name if isinstance(one, Service | ServiceImport) else ""
            if is_visible(rules, objects, client, one.namespace, service):
                yield one


@pytest.mark.parametrize("rules", RULES)
@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=6, deadline=None)
@pytest.mark.slow
def test_as_if_hidden_objects_did_not_exist(rules: str, seed: int) -> None:
    """Each client gets the same octets as from a server without the plugin whose cluster has only the visible objects.

    The clusters are random. Stored replies and zone transfers are compared, too.
    """
    rng = Random(seed)
    objects = list(labelled(rng, clusters.cluster(rng).values()))
    mode = rng.choice(("verified", "disabled") if "service" in rules else ("verified", "disabled", "insecure"))
    clients = ("10.244.0.1", "10.244.0.2", "10.244.1.1", "fd00:244::1", "198.51.100.1")
    found = Chains(RANDOM % (f"visibility {{\n{rules}\n}}", mode), objects)
    expected = {client: Chains(RANDOM % ("", mode), without_hidden(rules, objects, client)) for client in clients}
    asked = [(name, rng.choice(clusters.TYPES)) for name in rng.sample(NAMES, 60)]
    asked += [(name, "PTR") for name in NAMES if name.endswith("arpa.")]
    asked += [(zone, "NS") for zone in ZONES]
    for _ in range(2):
        for name, rtype in asked:
            for client in rng.sample(clients, 3):
                assert found.ask(name, rtype, client) == expected[client].ask(name, rtype, client), (
                    name,
                    rtype,
                    client,
                )
    for client in clients:
        for zone in (*ZONES, "ext.test."):
            if zone != "ext.test.":
                assert transferred(found, zone, client) == transferred(expected[client], zone, client)
