"""Random clusters, random changes of them, and names to query.

The pools of names are small, so that objects often have the same name.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from random import Random

from svcdns.cluster.changes import Change, Gone, Kind, Put
from svcdns.cluster.objects import (
    HEADLESS,
    NO_PORT,
    ClusterObject,
    Endpoint,
    EndpointSlice,
    ImportedSlice,
    Namespace,
    Pod,
    Port,
    Service,
    ServiceImport,
)

ObjectKey = tuple[Kind, str, str]
State = dict[ObjectKey, ClusterObject]

NAMESPACES = ("d", "e", "svc", "pod")
SERVICES = ("web", "db", "tcp", "10-244-0-1", "kube-dns")
CLUSTER_IPS = ("10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00:96::1", "fd00:96::2")
ADDRESSES = (
    "10.244.0.1",
    "10.244.0.2",
    "10.244.1.1",
    "10.96.0.3",
    "fd00:244::1",
    "fd00:244::",
    "FD00:244::A",
    "fd00:244:0::2",
    "::ffff:10.244.0.9",
)
FQDNS = (
    "www.example.org",
    "crane",
    "web.d.svc.cluster.local",
    "db.e.svc.Cluster.local.",
    "h0.db.d.svc.cluster.local",
    "missing.example.org",
)
HOSTNAMES = ("", "", "", "h0", "H0", "h1", "tcp")
PODS = ("", "", "pod-a", "pod.b", "x" * 64)
ZONES = ("", "east", "West.1")
CLUSTERS = ("", "c1", "C2")
PORT_NAMES = ("", "http", "HTTPS", "dns")
PROTOCOLS = ("TCP", "UDP", "")
EXTERNAL_IPS = ("203.0.113.1", "2001:db8::1", "lb.example.org")
TYPES = ("A", "AAAA", "SRV", "PTR", "TXT", "CNAME", "SOA", "NS", "MX", "HTTPS")


def cluster(rng: Random, changes: int = 120) -> State:
    """Returns the cluster after this many random changes."""
    state: State = {key_of(item): item for item in map(Namespace, NAMESPACES) if rng.random() < 0.8}
    for _ in range(changes):
        apply(state, change(rng, state))
    return state


def change(rng: Random, state: State) -> Put | Gone:
    """Returns a random change of a cluster: mostly a new or changed object, sometimes a removal."""
    if state and rng.random() < 0.2:
        kind, namespace, name = rng.choice(sorted(state))
        return Gone(kind, namespace, name)
    return Put(rng.choice(_MAKERS)(rng))


def apply(state: State, made: Change) -> None:
    """Applies a change to the state."""
    if isinstance(made, Put):
        state[key_of(made.object)] = made.object
    elif isinstance(made, Gone):
        state.pop((made.kind, made.namespace, made.name), None)


def key_of(item: ClusterObject) -> ObjectKey:
    """Returns kind, namespace and name."""
    return Kind(type(item).__name__), item.namespace, item.name


def _namespace(rng: Random) -> Namespace:
    return Namespace(rng.choice(NAMESPACES))


def _service(rng: Random) -> Service:
    namespace, name = rng.choice(NAMESPACES), rng.choice(SERVICES)
    ips: tuple[str, ...] = (HEADLESS,)
    if rng.random() < 0.6:
        ips = tuple(rng.sample((*CLUSTER_IPS, ""), rng.choice((1, 1, 2))))
    external = rng.choice(FQDNS + ADDRESSES[:1]) if rng.random() < 0.25 else None
    external_ips = tuple(rng.sample(EXTERNAL_IPS, rng.choice((0, 0, 1, 2))))
    return Service(namespace, name, ips, _ports(rng), external, external_ips)


def _slice(rng: Random) -> EndpointSlice:
    service = rng.choice((*SERVICES, ""))
    return EndpointSlice(rng.choice(NAMESPACES), f"s{rng.randrange(8)}", service, _ports(rng), _endpoints(rng))


def _imported_slice(rng: Random) -> ImportedSlice:
    namespace, name = rng.choice(NAMESPACES), f"i{rng.randrange(4)}"
    return ImportedSlice(namespace, name, rng.choice(SERVICES), _ports(rng), _endpoints(rng), rng.choice(CLUSTERS))


def _pod(rng: Random) -> Pod:
    return Pod(rng.choice(NAMESPACES), f"p{rng.randrange(6)}", rng.choice((*ADDRESSES, "")))


def _import(rng: Random) -> ServiceImport:
    ips = tuple(rng.sample(CLUSTER_IPS, rng.choice((0, 1, 2))))
    ports = _ports(rng) if rng.random() < 0.8 else ()
    return ServiceImport(rng.choice(NAMESPACES), rng.choice(SERVICES), rng.random() < 0.4, ips, ports)


_MAKERS = (
    _namespace,
    _service,
    _service,
    _service,
    _slice,
    _slice,
    _slice,
    _slice,
    _pod,
    _pod,
    _import,
    _imported_slice,
    _imported_slice,
)


def _ports(rng: Random) -> tuple[Port, ...]:
    count = rng.choice((0, 1, 1, 2, 3))
    made = (
        Port(rng.choice(PORT_NAMES), rng.choice(PROTOCOLS), rng.choice((53, 80, 443, NO_PORT))) for _ in range(count)
    )
    return tuple(made) or (Port(),)


def _endpoints(rng: Random) -> tuple[Endpoint, ...]:
    pool = FQDNS if rng.random() < 0.1 else ADDRESSES
    count = rng.choice((0, 1, 2, 2, 3))
    return tuple(
        Endpoint(rng.choice(pool), rng.choice(HOSTNAMES), rng.choice(PODS), rng.choice(ZONES)) for _ in range(count)
    )


def names(zones: Iterable[str] = ("cluster.local.",)) -> list[str]:
    """Returns names that a random cluster may have in these zones, reverse names, and similar names."""
    out = {reverse_name(address) for address in (*CLUSTER_IPS, *ADDRESSES, *EXTERNAL_IPS[:2], "10.9.9.9")}
    out |= {"96.10.in-addr.arpa.", "in-addr.arpa.", "ip6.arpa.", "x.1.0.96.10.in-addr.arpa.", "www.example.org."}
    labels = {
        "h0",
        "h1",
        "tcp",
        "_tcp",
        "pod-a",
        "_http._tcp",
        "http.tcp",
        "_._udp",
        "_dns._",
        "h0.c1",
        "tcp.c2",
        "east.pin._zone",
        "a.b.c",
    }
    labels |= {"west.1.prefer._zone", "*", *map(dashed, ADDRESSES)}
    for zone in zones:
        out |= {
            f"{name}{zone}"
            for name in (
                "",
                "svc.",
                "pod.",
                "dns-version.",
                "ns.dns.",
                "dns.",
                "nowhere.",
                "x.svc.",
                "web.nowhere.svc.",
            )
        }
        for namespace in NAMESPACES:
            out |= {f"{namespace}.svc.{zone}", f"{namespace}.pod.{zone}", f"none.{namespace}.svc.{zone}"}
            out |= {f"{dashed(address)}.{namespace}.pod.{zone}" for address in ADDRESSES}
            for service in SERVICES:
                out.add(f"{service}.{namespace}.svc.{zone}")
                out |= {f"{label}.{service}.{namespace}.svc.{zone}" for label in labels}
    return sorted(out)


def dashed(address: str) -> str:
    """Returns an address as a DNS label."""
    text = address.replace(".", "-").replace(":", "-")
    return text + "0" if text.endswith("-") else text


def reverse_name(address: str) -> str:
    return ip_address(address).reverse_pointer + "."
