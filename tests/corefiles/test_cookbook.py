"""Each Corefile of docs/cookbook.md starts, and answers as the recipe says.

The test changes only addresses, ports and paths of a recipe, so that the server runs on loopback.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.zone
import pytest

from tests.integration.test_etcd import Etcd
from tests.support.certificates import authority, pair
from tests.support.geoip_database import database
from tests.support.server import REPLY_TIMEOUT, Server, free_port, until
from tests.support.zone_upstream import ZoneUpstream

PAGE: Final = Path(__file__).parents[2] / "docs" / "cookbook.md"
TRANSPORTS: Final = ("tls", "https", "https3", "quic")
POD, OTHER = "127.0.0.2", "127.0.0.3"
"""The address of a Pod in the namespace `tenant-a`, and of no Pod."""
ZONE: Final = "@ 60 IN SOA ns root 1 3600 3600 3600 5\n@ 60 IN NS ns\nwww 60 IN A {}\n"
REVERSE: Final = "@ 60 IN SOA ns root 1 3600 3600 3600 5\n@ 60 IN NS ns\n{} 60 IN PTR {}.home.example.\n"
FILES: Final = {
    "custom/log.override": "log\n",
    "custom/corp.server": "custom.example:PORT {\n hosts {\n  192.0.2.90 www.custom.example\n }\n}\n",
    "NodeHosts": "192.0.2.91 node-1\n",
    "inside/db.home.example": ZONE.format("10.0.0.1"),
    "outside/db.home.example": ZONE.format("192.0.2.92"),
    "blocked": "0.0.0.0 ads.example\n",
    "example.db": ZONE.format("192.0.2.94"),
    "db.192.0.2": REVERSE.format("92", "www"),
    "db.192.168.1": REVERSE.format("5", "nas"),
    "weights": "release.lab.example\n    192.0.2.61 3\n    192.0.2.62 1\n",
}
"""Files in the folder of the Corefile. PORT stands for the port of DNS."""
MANIFEST: Final = """
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop},
 spec: {clusterIP: 10.96.0.80, externalIPs: [192.0.2.93], ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: pod, namespace: tenant-a}, status: {podIP: 127.0.0.2}}
"""
RECORDS: Final = (
    ". 60 IN SOA ns. root. 1 3600 3600 3600 5",
    "www.example.com. 60 IN A 192.0.2.80",
    "db.corp.example. 60 IN A 192.0.2.81",
    "web.shop.svc.cluster.local. 5 IN A 10.96.0.80",
    "web.shop.svc.clusterset.local. 5 IN A 10.97.0.80",
    "api.service.consul. 5 IN A 10.96.0.81",
    "db.privatelink.example. 60 IN A 10.0.0.81",
)
OTHER_RECORDS: Final = (". 60 IN SOA ns. root. 1 3600 3600 3600 5", "only.there.example. 60 IN A 192.0.2.82")
"""The records of the server that has the address 192.0.2.99 in a recipe."""


class Ask(NamedTuple):
    """A query and its answer: sorted RDATA, or an rcode. `transport` is `udp`, or an encrypted one of TRANSPORTS."""

    name: str
    expected: str
    rtype: str = "A"
    client: str = "127.0.0.1"
    transport: str = "udp"


def over(*transports: str) -> tuple[Ask, ...]:
    """Returns a query over each transport."""
    return tuple(Ask("www.example.com.", "192.0.2.80", transport=one) for one in transports)


CLUSTER: Final = (
    Ask("web.shop.svc.cluster.local.", "10.96.0.80"),
    Ask("no.shop.svc.cluster.local.", "NXDOMAIN"),
    Ask("80.0.96.10.in-addr.arpa.", "web.shop.svc.cluster.local.", "PTR"),
    Ask("www.example.com.", "192.0.2.80"),
)
RECIPES: Final[dict[str, tuple[Ask, ...]]] = {
    "kubeadm": (*CLUSTER, Ask("_http._tcp.web.shop.svc.cluster.local.", "0 100 80 web.shop.svc.cluster.local.", "SRV")),
    "kubeadm, older clusters": CLUSTER,
    "kops": CLUSTER,
    "EKS": CLUSTER,
    "AKS, with custom files": (
        *CLUSTER,
        Ask("www.custom.example.", "192.0.2.90"),
        Ask("a.b.c.d.internal.cloudapp.net.", "NXDOMAIN"),
    ),
    "Stub domains": (*CLUSTER, Ask("db.corp.example.", "192.0.2.81"), Ask("db.old.example.", "192.0.2.81")),
    "k3s": (*CLUSTER, Ask("node-1.", "192.0.2.91"), Ask("www.custom.example.", "192.0.2.90")),
    "RKE2": CLUSTER,
    "minikube": (*CLUSTER, Ask("host.minikube.internal.", "192.168.49.1")),
    "OpenShift": (*CLUSTER, Ask("db.corp.example.", "192.0.2.81")),
    "Talos": CLUSTER,
    "Gardener": (*CLUSTER, Ask("web.shop.svc.cluster.local.", "10.96.0.80"), Ask("www.custom.example.", "192.0.2.90")),
    "NodeLocal DNSCache": (Ask("web.shop.svc.cluster.local.", "10.96.0.80"), Ask("www.example.com.", "192.0.2.80")),
    "A view for each namespace": (
        Ask("api.tenant.example.", "192.0.2.70", client=POD),
        Ask("api.tenant.example.", "NXDOMAIN", client=OTHER),
        Ask("web.shop.svc.cluster.local.", "10.96.0.80", client=POD),
        Ask("www.example.com.", "192.0.2.80", client=OTHER),
    ),
    "Split horizon at home": (
        Ask("www.home.example.", "10.0.0.1", client=POD),
        Ask("www.home.example.", "192.0.2.92", client=OTHER),
        Ask("www.example.com.", "192.0.2.80"),
    ),
    "A secondary of the company's server": (Ask("www.example.com.", "192.0.2.80"), Ask("db.corp.example.", "SERVFAIL")),
    "Clients over TLS and HTTPS": over("udp", "tls", "https"),
    "Clients over QUIC and HTTP/3": over("udp", "quic", "https3"),
    "Upstreams over TLS": (Ask("www.example.com.", "SERVFAIL"),),
    "Several clusters": (*CLUSTER[:2], Ask("no.shop.svc.clusterset.local.", "NXDOMAIN"), CLUSTER[3]),
    "A list of blocked names": (
        Ask("ads.example.", "0.0.0.0"),
        Ask("www.example.com.", "192.0.2.80"),
        Ask("www.example.com.", "REFUSED", "ANY"),
    ),
    "By country": (
        Ask("www.example.", "192.0.2.44", client=POD),
        Ask("www.example.", "192.0.2.1", client=OTHER),
    ),
    "Behind a load balancer": (Ask("x.", "NOERROR"), Ask("x.", "REFUSED", client=OTHER)),
    "Addresses in names": (
        Ask("10-1-2-3.ip.example.", "10.1.2.3"),
        Ask("x.ip.example.", "NXDOMAIN"),
        Ask("10-1-2-3.ip.example.", "NXDOMAIN", "TXT"),
    ),
    "Clients with IPv6 only": (Ask("www.example.com.", "64:ff9b::c000:250", "AAAA"),),
    "The zone of the cluster for other servers": (CLUSTER[0], Ask("web.shop.ext.example.", "192.0.2.93")),
    "kind": (*CLUSTER, Ask("one.apps.example.", "10.96.0.80")),
    "MicroK8s": CLUSTER,
    "Kubespray": (
        *CLUSTER,
        Ask("db.corp.example.", "192.0.2.81"),
        Ask("db.old.example.", "192.0.2.81"),
        Ask("web.shop.svc.cluster.old.", "10.96.0.80"),
    ),
    "RKE": CLUSTER,
    "k0s": CLUSTER,
    "CoreDNS's Helm chart": (*CLUSTER, Ask("www.example.org.", "192.0.2.94")),
    "OpenShift on bare metal": (
        Ask("console.apps.cluster.example.", "192.0.2.31"),
        Ask("api-int.cluster.example.", "192.0.2.30"),
        Ask("node-1.cluster.example.", "192.0.2.41"),
        Ask("www.example.com.", "192.0.2.80"),
    ),
    "A cluster with two domains": (
        *CLUSTER[:2],
        Ask("web.shop.svc.prod.example.", "10.96.0.80"),
        Ask("80.0.96.10.in-addr.arpa.", "web.shop.svc.prod.example.", "PTR"),
    ),
    "Short names with one query": (
        *CLUSTER,
        Ask("www.example.com.tenant-a.svc.cluster.local.", "192.0.2.80", client=POD),
        Ask("www.example.com.tenant-a.svc.cluster.local.", "NXDOMAIN", client=OTHER),
    ),
    "A public name that leads into the cluster": (*CLUSTER, Ask("shop.example.", "10.96.0.80")),
    "A cluster without IPv6": (*CLUSTER, Ask("www.example.com.", "NOERROR", "AAAA")),
    "Consul and a service mesh": (*CLUSTER, Ask("api.service.consul.", "10.96.0.81")),
    "Services of other clusters by a second server": (*CLUSTER, Ask("web.shop.svc.clusterset.local.", "10.97.0.80")),
    "Names of Services for clients outside": (
        Ask("web.shop.ext.example.", "192.0.2.93"),
        Ask("no.shop.ext.example.", "NXDOMAIN"),
        Ask("web.shop.svc.cluster.local.", "REFUSED"),
    ),
    "Stale answers while the upstreams fail": (Ask("www.example.com.", "192.0.2.80"),),
    "A second try at other servers": (Ask("www.example.com.", "192.0.2.80"), Ask("only.there.example.", "192.0.2.82")),
    "Parts that several blocks share": (
        Ask("db.corp.example.", "192.0.2.81"),
        Ask("printer.lab.example.", "192.0.2.71"),
        Ask("www.example.com.", "192.0.2.80"),
    ),
    "An authoritative server": (
        Ask("www.home.example.", "192.0.2.92"),
        Ask("92.2.0.192.in-addr.arpa.", "www.home.example.", "PTR"),
        Ask("no.home.example.", "NXDOMAIN"),
        Ask("www.example.com.", "REFUSED"),
    ),
    "Private addresses stay inside": (
        Ask("5.1.168.192.in-addr.arpa.", "nas.home.example.", "PTR"),
        Ask("6.2.168.192.in-addr.arpa.", "NXDOMAIN", "PTR"),
        Ask("1.1.20.172.in-addr.arpa.", "NXDOMAIN", "PTR"),
        Ask("localhost.", "127.0.0.1"),
        Ask("www.example.com.", "192.0.2.80"),
    ),
    "A resolver for a network": (
        Ask("ads.example.", "0.0.0.0"),
        Ask("www.example.com.", "192.0.2.80"),
        Ask("www.example.com.", '"ANY obsoleted" "See RFC 8482"', "ANY"),
    ),
    "A forwarder in a cloud network": (
        Ask("db.privatelink.example.", "10.0.0.81"),
        Ask("www.example.com.", "192.0.2.80"),
    ),
    "Traffic by weight": (Ask("release.lab.example.", "192.0.2.61 192.0.2.62"),),
    "Queries for a collector": (Ask("www.example.com.", "192.0.2.80"),),
    "A time limit and a test of clients": (Ask("x.bad.example.", "192.0.2.53"), Ask("www.example.com.", "192.0.2.80")),
}
"""The queries to each recipe, by its heading."""
ETCD: Final = "external-dns with etcd"
OWNER: Final = "heritage=external-dns,external-dns/owner=default,external-dns/resource=ingress/shop/web"
KEYS: Final = {
    "web/1a2b3c4d": f'{{"host":"192.0.2.95","text":"{OWNER}","ttl":60,"targetstrip":1}}',
    "alias/5e6f7a8b": '{"host":"www.example.com","ttl":60,"targetstrip":1}',
}
"""The keys of the zone example.org in etcd, and their values."""
PORTS: Final = {"health": "health", "ready": "ready", "prometheus": "metrics"}


def recipes() -> dict[str, str]:
    """Returns the Corefile of each recipe, by its heading."""
    parts = re.findall(r"^## (.+?)$.*?^```corefile\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(parts)


def local(text: str, upstream: int, other: int) -> str:
    """Returns a Corefile for loopback: with other addresses, ports and paths."""
    text = text.replace("192.0.2.99", f"127.0.0.1:{other}")
    text = re.sub(r":(53|5353|8053) \{", r":{port} {", text)
    text = re.sub(rf"\b({'|'.join(TRANSPORTS)})://\.(?= )", r"\1://.:{\1}", text)
    text = text.replace("169.254.20.10:8080", "").replace("169.254.20.10", "127.0.0.1")
    text = re.sub(r"(forward +\S+ |transfer from )[^{\n]*\btls://[^{\n]*", rf"\1tls://127.0.0.1:{upstream} ", text)
    text = re.sub(
        r"^( *(?:forward +\S+|transfer from)) [^{\n]*?( \{)?$",
        lambda found: (
            found[0]
            if f":{other}" in found[0] or "tls://" in found[0]
            else f"{found[1]} 127.0.0.1:{upstream}{found[2] or ''}"
        ),
        text,
        flags=re.MULTILINE,
    )
    for directive, port in PORTS.items():
        text = re.sub(rf"^( *{directive}) *[^ {{\n]*( +\{{)?$", rf"\1 127.0.0.1:{{{port}}}\2", text, flags=re.MULTILINE)
    return re.sub(r"/etc/(?:coredns|svcdns)/", "{dir}/", text)


class Recipe(Server):
    """A server with a recipe. Keys without a port get the port of the test."""

    def command(self) -> list[str]:
        """Returns the command with the port."""
        return [*super().command(), "-dns.port", str(self.ports["port"])]

    def write(self, corefile: str) -> None:
        """Writes the Corefile, and the files in its folder. Each encrypted transport gets a free port."""
        for name in TRANSPORTS:
            self.ports.setdefault(name, free_port())
        pair().write(self.folder, "tls")
        authority().write(self.folder)
        for name, text in FILES.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.replace("PORT", str(self.ports["port"])))
        (self.folder / "country.mmdb").write_bytes(database({"127.0.0.2/32": {"country": {"iso_code": "GB"}}}))
        (self.folder / "cluster").mkdir()
        (self.folder / "cluster" / "all.yaml").write_text(MANIFEST)
        super().write(corefile)

    def result(self, ask: Ask) -> str:
        """Returns the RDATA of the answer's last records, or the rcode."""
        reply: Any = (
            self.ask(ask.name, ask.rtype, source=ask.client) if ask.transport == "udp" else self._encrypted(ask)
        )
        if reply is None:
            return "no answer"
        found = [rrset[0].to_text() for rrset in reply.answer if rrset.rdtype != dns.rdatatype.CNAME]
        return " ".join(sorted(found)) or dns.rcode.to_text(reply.rcode())

    def _encrypted(self, ask: Ask) -> dns.message.Message | None:
        """Returns the reply to a query over an encrypted transport, or None. The certificate is verified."""
        query, port = dns.message.make_query(ask.name, ask.rtype), self.ports[ask.transport]
        options: dict[str, Any] = {"timeout": REPLY_TIMEOUT, "one_rr_per_rrset": True}
        if ask.transport != "tls":
            context = authority().client()
            options["verify"] = context if ask.transport == "https" else str(self.folder / "ca.crt")
        try:
            if ask.transport == "tls":
                options["ssl_context"] = authority().client()
                return dns.query.tls(query, "127.0.0.1", port=port, server_hostname="dns.test", **options)
            if ask.transport == "quic":
                return dns.query.quic(query, "127.0.0.1", port=port, server_hostname="dns.test", **options)
            version = dns.query.HTTPVersion.H3 if ask.transport == "https3" else dns.query.HTTPVersion.H2
            url = f"https://dns.test:{port}/dns-query"
            return dns.query.https(query, url, bootstrap_address="127.0.0.1", http_version=version, **options)
        except (OSError, dns.exception.DNSException):
            return None


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[int, int]]:
    """Runs the upstream of all recipes, and the other server. Yields their ports."""
    with ZoneUpstream(RECORDS) as one, ZoneUpstream(OTHER_RECORDS) as other:
        yield one.port, other.port


def test_every_recipe_is_asked() -> None:
    """The page has the recipes of this module, and no others."""
    assert set(recipes()) == {*RECIPES, ETCD}


def assert_answers(server: Recipe, *asked: Ask) -> None:
    """Sends each query until its answer is right, and then three times more, so that the answer table has it."""
    server.until_serving()
    for ask in asked:
        until(f"{ask}", lambda: server.result(ask) == ask.expected)  # noqa: B023
        assert [server.result(ask) for _ in range(3)] == [ask.expected] * 3
    assert "[ERROR] plugin/loop" not in server.log


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe(name: str, tmp_path: Path, upstreams: tuple[int, int]) -> None:
    """The real server starts with the recipe, and answers from its sources, cold and from the answer table."""
    text = local(recipes()[name], *upstreams)
    with Recipe(tmp_path, text, SVCDNS_MANIFESTS=str(tmp_path / "cluster")) as server:
        assert_answers(server, *RECIPES[name])


@pytest.mark.integration
@pytest.mark.skipif(not shutil.which("etcd") or not shutil.which("etcdctl"), reason="etcd is not installed")
def test_names_of_external_dns(tmp_path: Path, upstreams: tuple[int, int]) -> None:
    """The real server answers from a real etcd. The keys are those that external-dns writes."""
    (tmp_path / "etcd").mkdir()
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    try:
        for key, value in KEYS.items():
            etcd.control("put", f"/skydns/org/example/{key}", value)
        text = local(recipes()[ETCD].replace("http://etcd.dns.svc.cluster.local:2379", etcd.url), *upstreams)
        with Recipe(tmp_path, text) as server:
            assert_answers(
                server,
                Ask("web.example.org.", "192.0.2.95"),
                Ask("alias.example.org.", "192.0.2.80"),
                Ask("no.example.org.", "NXDOMAIN"),
                Ask("www.example.com.", "192.0.2.80"),
            )
    finally:
        etcd.stop()
