"""The plugin *visibility* (docs/plugins/visibility.md)."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import dns.message
import pytest

from svcdns.cluster.changes import Gone, Kind
from svcdns.cluster.objects import (
    ClusterObject,
    Endpoint,
    EndpointSlice,
    Namespace,
    Pod,
    Port,
    Service,
)
from svcdns.cluster.watch_options import WatchOptions
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugins.kubernetes import parse as parse_kubernetes
from svcdns.wire import names
from svcdns.wire.codes import RA
from tests.support import world
from tests.support.chains import LOCAL, Chains

HTTP = Port("http", "TCP", 80)
SHARED = (("shared", "true"),)
OBJECTS: tuple[ClusterObject, ...] = (
    Namespace("a"),
    Namespace("b", labels=(("team", "blue"),)),
    Namespace("common", labels=SHARED),
    Namespace("bare"),
    Service("a", "web", ("10.0.0.1",), (HTTP,), external_ips=("192.0.2.1",)),
    Service("a", "other", ("10.0.0.4",), (HTTP,)),
    Service("a", "hl", ("None",), (HTTP,)),
    Service("b", "web", ("10.0.0.2",), (HTTP,), external_ips=("192.0.2.2",)),
    Service("b", "to-a", (), external_name="web.a.svc.cluster.local"),
    Service("common", "web", ("10.0.0.3",), (HTTP,)),
    EndpointSlice("a", "hl-1", "hl", (HTTP,), (Endpoint("10.244.1.1", "h0"),)),
    Pod("a", "pod-a", "10.244.0.11", ("fd00:244::11",), labels=(("app", "front"),)),
    Pod("b", "pod-b", "10.244.0.12"),
    Pod("a", "twin-a", "10.244.0.13"),
    Pod("a", "twin-b", "10.244.0.13"),
    Pod("a", "on-host", "192.168.0.1", host_network=True),
)
POD_A, POD_A6, POD_B, TWINS, NODE, NOBODY = (
    "10.244.0.11",
    "fd00:244::11",
    "10.244.0.12",
    "10.244.0.13",
    "192.168.0.1",
    "198.51.100.1",
)
COREFILE = """
. {
    visibility {
        %s
    }
    %s
    k8s_external ext.test 2.0.192.in-addr.arpa
    transfer {
        to *
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods verified
    }
    forward . 192.0.2.53
}
"""
TWO_LINES = "own\nshared labels shared=true"


def chains(rules: str = TWO_LINES, more: str = "", objects: Iterable[ClusterObject] = OBJECTS) -> Chains:
    """Returns the plugin chains of a server with these visibility rules and cluster objects."""
    return Chains(COREFILE % (rules, more), objects)


def seen(found: Chains, client: str) -> str:
    """Returns, as text, which Services with the name `web` or `other` the client sees."""
    services = ("web.a", "other.a", "web.b", "web.common")
    return " ".join(
        name for name in services if rcode(found.ask(f"{name}.svc.cluster.local.", client=client)) == "NOERROR"
    )


def rcode(wire: bytes) -> str:
    return dns.rcode.to_text(dns.message.from_wire(wire).rcode())


@pytest.mark.parametrize(
    ("rules", "client", "expected"),
    [
        pytest.param("own", POD_A, "web.a other.a", id="own namespace"),
        pytest.param("own", POD_A6, "web.a other.a", id="another address of the Pod"),
        pytest.param("own", "::ffff:10.244.0.11", "web.a other.a", id="mapped address"),
        pytest.param("own", POD_B, "web.b", id="another namespace"),
        pytest.param("own", NOBODY, "", id="no Pod"),
        pytest.param("own", TWINS, "", id="two Pods"),
        pytest.param("own", NODE, "", id="host network"),
        pytest.param("own", "nowhere", "", id="no address"),
        pytest.param(TWO_LINES, POD_A, "web.a other.a web.common", id="two lines"),
        pytest.param(TWO_LINES, POD_B, "web.b web.common", id="two lines, another namespace"),
        pytest.param(TWO_LINES, NOBODY, "web.common", id="two lines, a stranger"),
        pytest.param("shared all", NOBODY, "web.a other.a web.b web.common", id="all"),
        pytest.param("shared namespace A b", NOBODY, "web.a other.a web.b", id="namespaces by name"),
        pytest.param("shared service a/web b/Web", NOBODY, "web.a web.b", id="Services by name"),
        pytest.param("shared labels team in (blue, red)", NOBODY, "web.b", id="a set of label values"),
        pytest.param("shared namespace a\nshared namespace b", NOBODY, "web.a other.a web.b", id="rules add up"),
        pytest.param("allow namespace a", POD_A, "web.a other.a web.b web.common", id="clients by namespace"),
        pytest.param("allow namespace a", POD_B, "", id="clients of another namespace"),
        pytest.param("allow namespace a see namespace b", POD_A, "web.b", id="namespace to namespace"),
        pytest.param("allow labels team=blue see service a/web", POD_B, "web.a", id="clients by label"),
        pytest.param("allow labels team=blue", POD_A, "", id="clients without the label"),
        pytest.param("allow labels !team", NOBODY, "", id="a stranger has no labels, not even missing ones"),
        pytest.param("allow pod_labels app=front see namespace b", POD_A, "web.b", id="clients by the Pod's label"),
        pytest.param("allow pod_labels app=front see namespace b", POD_A6, "web.b", id="another address, by label"),
        pytest.param("allow pod_labels app=front", POD_B, "", id="Pods without the label"),
        pytest.param("allow pod_labels !app see namespace a", POD_B, "web.a other.a", id="Pods by a missing label"),
        pytest.param("allow pod_labels !app", NOBODY, "", id="a stranger has no missing labels of Pods"),
        pytest.param("allow pod_labels !app", TWINS, "", id="two Pods have no labels"),
        pytest.param("allow pod_labels !app", NODE, "", id="a Pod of the host network has no labels"),
        pytest.param(
            "allow namespace a pod_labels app=front see namespace b",
            POD_A,
            "web.b",
            id="namespace and label of the Pod",
        ),
        pytest.param("allow namespace b pod_labels app=front", POD_A, "", id="the label in another namespace"),
        pytest.param("allow namespace a pod_labels app=db", POD_A, "", id="the namespace without the label"),
        pytest.param("allow labels !team pod_labels app", POD_A, "web.a other.a web.b web.common", id="both labels"),
        pytest.param("allow labels team pod_labels app", POD_A, "", id="labels of another namespace"),
        pytest.param("allow net 198.51.100.0/24 fd00::/8 see namespace a", NOBODY, "web.a other.a", id="network"),
        pytest.param("allow net fd00::/8 see namespace b", POD_A6, "web.b", id="network of a Pod"),
        pytest.param("allow net 192.168.0.0/16", POD_A, "", id="another network"),
        pytest.param("own\ndefault all", NOBODY, "web.a other.a web.b web.common", id="default of a stranger"),
        pytest.param("own\ndefault labels shared", NODE, "web.common", id="default of a node"),
        pytest.param("own\ndefault all", TWINS, "web.a other.a web.b web.common", id="default of two Pods"),
        pytest.param("own\ndefault all", POD_A, "web.a other.a", id="no default for a Pod"),
    ],
)
def test_decides(rules: str, client: str, expected: str) -> None:
    """A client sees each Service that at least one of its rules shows."""
    found = chains(rules)
    assert [seen(found, client) for _ in range(3)] == [expected] * 3


def test_clients_of_all_kinds_in_turn() -> None:
    """The answer table never gives a client the reply of another client."""
    found, rng = chains(), Random(7)
    expected = {
        POD_A: "web.a other.a web.common",
        POD_B: "web.b web.common",
        NOBODY: "web.common",
        TWINS: "web.common",
        NODE: "web.common",
    }
    for client in [rng.choice(sorted(expected)) for _ in range(60)]:
        assert seen(found, client) == expected[client]
    assert found.hits() > 100


@pytest.mark.parametrize(
    ("hidden", "missing", "rtype"),
    [
        ("web.a.svc.cluster.local.", "web.z.svc.cluster.local.", "A"),
        ("web.a.svc.cluster.local.", "web.z.svc.cluster.local.", "AAAA"),
        ("a.svc.cluster.local.", "z.svc.cluster.local.", "A"),
        ("_http._tcp.web.a.svc.cluster.local.", "_http._tcp.web.z.svc.cluster.local.", "SRV"),
        ("h0.hl.a.svc.cluster.local.", "h0.hl.z.svc.cluster.local.", "A"),
        ("hl.a.svc.cluster.local.", "hl.z.svc.cluster.local.", "SRV"),
        ("10-244-0-11.a.pod.cluster.local.", "10-244-0-11.z.pod.cluster.local.", "A"),
        ("*.a.svc.cluster.local.", "*.z.svc.cluster.local.", "A"),
        ("web.a.svc.cluster.local.", "web.z.svc.cluster.local.", "TXT"),
        ("web.a.svc.cluster.local.", "web.z.svc.cluster.local.", "MX"),
        ("1.0.0.10.in-addr.arpa.", "9.0.0.10.in-addr.arpa.", "PTR"),
        ("1.1.244.10.in-addr.arpa.", "9.1.244.10.in-addr.arpa.", "PTR"),
        ("web.a.ext.test.", "web.z.ext.test.", "A"),
        ("_http._tcp.web.a.ext.test.", "_http._tcp.web.z.ext.test.", "SRV"),
        ("a.ext.test.", "z.ext.test.", "A"),
        ("1.2.0.192.in-addr.arpa.", "9.2.0.192.in-addr.arpa.", "PTR"),
    ],
)
def test_a_hidden_name_is_answered_like_a_missing_one(hidden: str, missing: str, rtype: str) -> None:
    """The replies differ only in the query name."""
    found = chains()
    assert rcode(found.ask(hidden, rtype, POD_A)) in ("NOERROR", "NXDOMAIN")
    for _ in range(3):
        wires = [found.ask(name, rtype, POD_B) for name in (hidden, missing)]
        at = [12 + len(names.from_text(name)) for name in (hidden, missing)]
        assert wires[0][:12] + wires[0][at[0] :] == wires[1][:12] + wires[1][at[1] :]
        assert rcode(wires[0]) == "NXDOMAIN"
    assert rcode(found.ask(hidden, "ANY" if rtype == "TXT" else rtype, POD_A)) != "SERVFAIL"


def test_an_alias_to_a_hidden_service() -> None:
    """The ExternalName Service in the client's namespace is answered as if its target did not exist."""
    found = chains()
    without = chains(objects=[one for one in OBJECTS if one.namespace != "a" and one.name != "a"])
    name = "to-a.b.svc.cluster.local."
    assert found.ask(name, client=POD_B) == without.ask(name, client=POD_B)
    assert b"\x0a\x00\x00\x01" not in found.ask(name, client=POD_B)


# -- who a client is


def test_an_address_that_passes_to_another_pod_keeps_no_rights() -> None:
    """The address immediately has the rights of the new Pod, also for stored replies."""
    for order in ("first the old Pod ends", "first the new Pod starts"):
        found = chains()
        old, new = Gone(Kind.POD, "a", "pod-a"), Pod("b", "pod-new", POD_A)
        for _ in range(3):
            assert seen(found, POD_A) == "web.a other.a web.common"
        found.apply(old if order.startswith("first the old") else new)
        assert seen(found, POD_A) == "web.common", f"{order}: no Pod, or two Pods"
        found.apply(new if order.startswith("first the old") else old)
        for _ in range(3):
            assert seen(found, POD_A) == "web.b web.common"
        assert found.hits() > 0


def test_a_pod_that_changes_its_address() -> None:
    """The old address loses the Pod's rights, and the new address gets them."""
    found = chains()
    assert seen(found, POD_A) == "web.a other.a web.common"
    found.apply(Pod("a", "pod-a", "10.244.0.99"))
    assert seen(found, POD_A) == seen(found, POD_A6) == "web.common"
    assert seen(found, "10.244.0.99") == "web.a other.a web.common"


def test_the_second_pod_of_an_address_ends() -> None:
    """An address of two Pods has no rights. When one Pod ends, the address has the rights of the other Pod."""
    found = chains()
    assert seen(found, TWINS) == "web.common"
    found.apply(Gone(Kind.POD, "a", "twin-b"))
    assert seen(found, TWINS) == "web.a other.a web.common"


def test_labels_of_namespaces_change() -> None:
    """The labels of the Service's and of the client's namespace determine what clients see."""
    found = chains("own\nshared labels shared=true\nallow labels team=blue see namespace common")
    for _ in range(3):
        assert seen(found, POD_A) == "web.a other.a web.common"
    found.apply(Namespace("common"), Namespace("b", labels=(*SHARED, ("team", "blue"))))
    assert seen(found, POD_A) == "web.a other.a web.b"
    for _ in range(3):
        assert seen(found, POD_B) == "web.b web.common"
    found.apply(Namespace("b"))
    assert seen(found, POD_B) == "web.b"


def test_labels_of_pods_change() -> None:
    """The next query of a client gets the reply for the new labels of its Pod."""
    found = chains(
        "own\nallow pod_labels role in (admin, ops) see namespace common\nallow net 10.244.0.12 see service a/web"
    )
    for labels, expected in ((), "web.b"), ((("role", "ops"),), "web.b web.common"), ((("role", "dev"),), "web.b"):
        found.apply(Pod("b", "pod-b", POD_B, labels=labels))
        for _ in range(3):
            assert seen(found, POD_B) == f"web.a {expected}"
            assert seen(found, POD_A) == "web.a other.a"
    found.apply(Pod("b", "pod-b", POD_B, labels=(("role", "admin"),)), Pod("b", "twin", POD_B))
    assert seen(found, POD_B) == "web.a"


def test_before_the_first_list_a_stranger_gets_no_default() -> None:
    """Until the Pods are listed, every client may be a Pod, so the default for other clients does not apply. Hidden
    names get SERVFAIL.
    """
    found = Chains(COREFILE % ("own\nshared labels shared=true\ndefault all", ""), OBJECTS, synced=False)
    assert seen(found, NOBODY) == "web.common"
    assert rcode(found.ask("web.a.svc.cluster.local.", client=NOBODY)) == "SERVFAIL"
    found.sync()
    assert seen(found, NOBODY) == "web.a other.a web.b web.common"


def test_an_alias_that_was_answered_before_the_first_list() -> None:
    """Before the list, the target is hidden. After the list, clients get the target, and not a stored reply."""
    found = Chains(COREFILE % ("shared namespace b\ndefault all", ""), OBJECTS, synced=False)
    for _ in range(3):
        assert b"\x0a\x00\x00\x01" not in found.ask("to-a.b.svc.cluster.local.", client=NOBODY)
    found.sync()
    assert b"\x0a\x00\x00\x01" in found.ask("to-a.b.svc.cluster.local.", client=NOBODY)


def test_an_alias_into_a_block_without_the_plugin() -> None:
    """The rules of the target's block apply. Here that block hides nothing."""
    open_block = "\nopen.test {\n kubernetes open.test\n}\n"
    alias = Service("b", "to-open", (), external_name="web.a.svc.open.test")
    found = Chains(COREFILE % ("own", "") + open_block, (*OBJECTS, alias))
    for _ in range(3):
        assert b"\x0a\x00\x00\x01" in found.ask("to-open.b.svc.cluster.local.", client=POD_B)
        assert rcode(found.ask("web.a.svc.open.test.", client=POD_B)) == "NOERROR"
        assert rcode(found.ask("web.a.svc.cluster.local.", client=POD_B)) == "NXDOMAIN"


# -- other plugins of the block


def forwarded(query: Query) -> Reply:
    """Returns the reply of an upstream: an address that is the same for every name."""
    owner = names.to_text(query.name)
    return Reply(flags=query.reply_flags | RA, answer=world.records(f"{owner} 300 IN A 198.51.100.77"))


def test_cache_keeps_no_reply_that_depends_on_the_client() -> None:
    """With fallthrough, a hidden name gets the upstream's answer. *cache* must not give it to clients that see the
    Service.
    """
    asked: list[str] = []

    def outside(query: Query) -> Reply:
        asked.append(names.to_text(query.name))
        return forwarded(query)

    corefile = ". {\n visibility {\n own\n }\n cache 30\n kubernetes cluster.local {\n fallthrough\n }\n forward . 192.0.2.53\n}"
    for clients in ((POD_A, POD_B), (POD_B, POD_A)):
        found = Chains(corefile, OBJECTS, outside)
        for client in clients * 3:
            expected = "10.0.0.1" if client == POD_A else "198.51.100.77"
            assert expected in str(dns.message.from_wire(found.ask("web.a.svc.cluster.local.", client=client)))
    asked.clear()
    for client in (POD_A, POD_B, NOBODY):
        found.ask("www.example.org.", client=client)
    assert asked == ["www.example.org."]


def test_a_reload_that_adds_the_plugin() -> None:
    """*cache* has replies from before the reload. A client that may not see the Service must not get these replies,
    even through an alias in another block.
    """
    plain = (
        ". {\n cache 30\n %s kubernetes cluster.local\n forward . 192.0.2.53\n}\n"
        'alias.test {\n cache 30\n template IN A {\n answer "{{ .Name }} 60 IN CNAME ext.a.svc.cluster.local."\n }\n}'
    )
    objects = (*OBJECTS, Service("a", "ext", (), external_name="www.example.org"))
    found = Chains(plain % "", objects, forwarded)
    for name in ("ext.a.svc.cluster.local.", "x.alias.test."):
        assert b"\xc6\x33\x64\x4d" in found.ask(name, client=POD_B)
    found.load(plain % "visibility {\n own\n }\n")
    for _ in range(3):
        for name in ("ext.a.svc.cluster.local.", "x.alias.test."):
            assert b"\xc6\x33\x64\x4d" not in found.ask(name, client=POD_B)
            assert b"\xc6\x33\x64\x4d" in found.ask(name, client=POD_A)


def test_cache_keeps_no_alias_of_a_hidden_service() -> None:
    """The ExternalName Service is hidden, but its addresses come from an upstream."""
    objects = (*OBJECTS, Service("a", "ext", (), external_name="www.example.org"))
    corefile = ". {\n visibility {\n own\n }\n cache 30\n kubernetes cluster.local\n forward . 192.0.2.53\n}"
    for clients in ((POD_A, POD_B), (POD_B, POD_A)):
        found = Chains(corefile, objects, forwarded)
        for client in clients * 3:
            wire = found.ask("ext.a.svc.cluster.local.", client=client)
            assert (b"\xc6\x33\x64\x4d" in wire) == (client == POD_A)


def test_cache_does_not_show_the_spelling_of_another_client() -> None:
    """From another letter case, a client could learn which names other clients have queried."""
    found = chains(more="cache 30")
    for _ in range(3):
        assert b"\x07CLUSTER" in found.ask("web.a.svc.CLUSTER.local.", client=POD_A)
        assert b"\x07CLUSTER" not in found.ask("web.a.svc.cluster.LOCAL.", client=POD_B)


def test_rewrite_to_a_hidden_name() -> None:
    """The reply is NXDOMAIN. A client that sees the target gets its address."""
    found = chains(more="rewrite name exact short.test web.a.svc.cluster.local answer auto")
    for client, expected in ((POD_A, "NOERROR"), (POD_B, "NXDOMAIN")) * 3:
        assert rcode(found.ask("short.test.", client=client)) == expected


def test_autopath_does_not_find_hidden_names() -> None:
    """The search path of a Pod skips a hidden name, as if the name did not exist."""
    found = chains(more="autopath @kubernetes")
    name = "web.a.b.svc.cluster.local."
    assert rcode(found.ask(name, client=POD_B)) == "NXDOMAIN"
    assert rcode(found.ask("web.common.b.svc.cluster.local.", client=POD_B)) == "NOERROR"
    assert rcode(found.ask("web.a.svc.cluster.local.", client=POD_B)) == "NXDOMAIN"


def test_acl_refuses_before_visibility() -> None:
    """REFUSED does not depend on what the client may see."""
    found = chains(more="acl {\n block net 10.244.0.12\n}")
    assert rcode(found.ask("web.b.svc.cluster.local.", client=POD_B)) == "REFUSED"
    assert seen(found, POD_A) == "web.a other.a web.common"


def transferred(found: Chains, zone: str, client: str) -> str:
    """Returns all records of a zone transfer, as text."""
    reply = found.chain_reply(zone, "AXFR", client)
    assert reply.stream is not None
    return "\n".join(world.shown(record for portion in reply.stream for record in portion))


@pytest.mark.parametrize("zone", ["cluster.local.", "ext.test."])
def test_transfers(zone: str) -> None:
    """A transfer has only records that the client may see."""
    found = chains("own\nshared labels shared=true\nallow net 198.51.100.1 see all")
    whole, part = transferred(found, zone, NOBODY), transferred(found, zone, POD_B)
    assert f"web.a.{'svc.' if zone.startswith('cluster') else ''}{zone}" in whole
    assert ".a." not in part.replace("CNAME web.a.", ""), "the target of the alias is written in the client's namespace"
    assert "web.b." in part
    without = chains("shared all", objects=[one for one in OBJECTS if one.namespace != "a" and one.name != "a"])
    assert part == transferred(without, zone, POD_B)


def test_the_name_servers_of_a_zone() -> None:
    """NS records do not name a hidden Service. They name `ns.dns` instead."""
    dns_service = (
        Service("a", "dns", ("10.0.0.53",)),
        EndpointSlice("a", "dns-1", "dns", (HTTP,), (Endpoint(LOCAL),)),
    )
    found = chains(objects=(*OBJECTS, *dns_service))
    assert b"\x03dns\x01a\x03svc" in found.ask("cluster.local.", "NS", POD_A)
    for _ in range(3):
        assert found.ask("cluster.local.", "NS", POD_B) == chains().ask("cluster.local.", "NS", POD_B)
        assert found.ask("ns.dns.cluster.local.", "A", POD_B) == chains().ask("ns.dns.cluster.local.", "A", POD_B)


def test_the_name_server_of_an_external_zone() -> None:
    """The addresses of `ns.dns` are those of this machine, not those of a hidden Service."""
    dns_service = (
        Service("a", "dns", ("10.0.0.53",), (HTTP,), external_ips=("192.0.2.99",)),
        EndpointSlice("a", "dns-1", "dns", (HTTP,), (Endpoint(LOCAL),)),
    )
    found = chains(objects=(*OBJECTS, *dns_service))
    assert b"\xc0\x00\x02\x63" in found.ask("ext.test.", "NS", POD_A)
    for _ in range(3):
        assert found.ask("ext.test.", "NS", POD_B) == chains().ask("ext.test.", "NS", POD_B)
        assert found.ask("ns1.dns.ext.test.", "A", POD_B) == chains().ask("ns1.dns.ext.test.", "A", POD_B)


def test_hidden_answers_are_counted() -> None:
    """A query is counted if something was hidden from its answer, also if the answer table replies."""
    found = chains()
    for _ in range(4):
        found.ask("web.a.svc.cluster.local.", client=POD_B)
    found.ask("web.z.svc.cluster.local.", client=POD_B)
    found.ask("web.b.svc.cluster.local.", client=POD_B)
    found.flush()
    assert world.counted(found.counters)["svcdns_visibility_hidden_total", "dns://:53"] == 4


# -- options


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("", "2:1 without a rule nobody sees a Service; own, shared, allow or default was expected"),
        ("owm", "3:1 unknown property 'owm' (did you mean 'own'?)"),
        ("own a", "3:5 "),
        ("shared", "3:1 'shared' needs more words; all, namespace, service or labels was expected"),
        ("shared lables x", "3:8 'lables' was found (did you mean 'labels'?); all, namespace"),
        ("shared all x", "3:12 'x' was found, nothing was expected after 'all'"),
        ("shared namespace", "3:8 'namespace' needs a word after it"),
        ("shared labels a=b=c", "3:15 bad label selector"),
        ("shared service web", "3:16 'web' is not a Service; NAMESPACE/NAME was expected"),
        ("allow net", "3:7 'net' needs a word after it"),
        ("allow net 10.0.0.0/33", "3:11 '10.0.0.0/33' is not a network"),
        ("allow namespace a see", "3:1 'allow' needs more words; all, namespace, service or labels was expected"),
        ("allow see all", "3:1 'allow' needs more words; namespace, labels, pod_labels or net was expected"),
        ("allow pod_labels", "3:7 'pod_labels' needs a word after it"),
        ("allow pod_labels a=b=c", "3:18 bad label selector"),
        ("allow namespace pod_labels a", "3:7 'namespace' needs a word after it"),
        ("allow net 10.0.0.1 pod_labels a", "3:20 'pod_labels' was found after 'net'; 'see' was expected"),
        ("shared pod_labels a", "3:8 'pod_labels' was found"),
        ("default own", "3:9 'own' was found; all, namespace, service or labels was expected"),
    ],
)
def test_rejects(rules: str, expected: str) -> None:
    text = f"visibility {{\n{rules}\n}}\nkubernetes cluster.local"
    assert world.rejection("visibility", text).startswith(expected)


def test_needs_kubernetes_in_the_block() -> None:
    assert world.rejection("visibility", "visibility {\n own\n}").startswith("2:1 the server block has no 'kubernetes'")


def test_what_is_watched() -> None:
    """Pods are watched with all fields that identify clients. Without the plugin, Pods are not watched."""
    with_plugin = world.block("visibility {\n own\n}\nkubernetes cluster.local", "kubernetes")
    assert parse_kubernetes(with_plugin).watch == WatchOptions(pods=True, clients=True)
    assert parse_kubernetes(with_plugin).pods == "disabled"
    rules = "allow pod_labels app in (web, db), !team see namespace b\nallow namespace a pod_labels tier=x,app\nown"
    with_labels = world.block(f"visibility {{\n{rules}\n}}\nkubernetes cluster.local", "kubernetes")
    expected = WatchOptions(pods=True, clients=True, pod_labels=("app", "team", "tier"))
    assert parse_kubernetes(with_labels).watch == expected
    assert parse_kubernetes(world.block("kubernetes cluster.local", "kubernetes")).watch == WatchOptions()


def test_lifetime_of_a_hidden_answer() -> None:
    """Like the reply for a missing name, the reply is valid until the cluster changes. It depends on the namespace."""
    found = chains()
    replies = [found.chain_reply(name, "A", POD_B) for name in ("web.a.svc.cluster.local.", "web.z.svc.cluster.local.")]
    assert [reply.lifetime for reply in replies] == [UNTIL_CHANGED] * 2
    assert ("namespace", "a") in replies[0].dependencies
