"""Services as the API server would store them: families, ClusterIPs, ports and external addresses."""

from collections.abc import Callable
from ipaddress import IPv4Network, ip_address

import pytest

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import HEADLESS, PLACEHOLDER_PORTS, Port, Service
from svcdns.sources.manifests import ManifestError
from svcdns.sources.manifests.address_pool import SERVICE_RANGE, SERVICE_RANGE_6
from svcdns.sources.manifests.cluster import Cluster, ObjectKey

Say = Callable[..., Cluster]


def service(say: Say, spec: str, status: str = "{}") -> Service:
    """Returns the Service `web` with that spec."""
    found = say(f"apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\nstatus: {status}\n").objects[
        ObjectKey(Kind.SERVICE, "default", "web")
    ]
    assert isinstance(found, Service)
    return found


@pytest.mark.parametrize(
    ("spec", "addresses"),
    [
        pytest.param("{}", ["made-up IPv4"], id="default"),
        pytest.param("{type: NodePort}", ["made-up IPv4"], id="node-port"),
        pytest.param("{clusterIP: ''}", ["made-up IPv4"], id="empty"),
        pytest.param("{clusterIP: 10.0.0.7}", ["10.0.0.7"], id="written"),
        pytest.param(
            "{clusterIP: 10.0.0.7, clusterIPs: [10.0.0.7, 'fd00::7']}", ["10.0.0.7", "fd00::7"], id="written-both"
        ),
        pytest.param("{clusterIP: None}", [HEADLESS], id="headless"),
        pytest.param("{clusterIPs: [None]}", [HEADLESS], id="headless-by-list"),
        pytest.param("{type: ExternalName, externalName: a.example}", [], id="external-name"),
        pytest.param("{ipFamilies: [IPv6]}", ["made-up IPv6"], id="ipv6"),
        pytest.param("{ipFamilies: [IPv6, IPv4]}", ["made-up IPv6", "made-up IPv4"], id="ipv6-first"),
        pytest.param("{ipFamilyPolicy: PreferDualStack}", ["made-up IPv4", "made-up IPv6"], id="prefer-dual"),
        pytest.param(
            "{ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]}",
            ["made-up IPv6", "made-up IPv4"],
            id="require-dual",
        ),
        pytest.param("{ipFamilyPolicy: SingleStack, ipFamilies: [IPv6]}", ["made-up IPv6"], id="single"),
        pytest.param(
            "{ipFamilyPolicy: PreferDualStack, clusterIP: 'fd00::7'}",
            ["fd00::7", "made-up IPv4"],
            id="one-written-of-two",
        ),
    ],
)
def test_cluster_ips(say: Say, spec: str, addresses: list[str]) -> None:
    """ClusterIPs in a manifest stay. If a family has none, an address of the documented range is assigned."""
    found = service(say, spec).cluster_ips
    assert len(found) == len(addresses)
    for address, expected in zip(found, addresses, strict=True):
        if expected.startswith("made-up"):
            network = SERVICE_RANGE if expected.endswith("IPv4") else SERVICE_RANGE_6
            assert ip_address(address) in network
        else:
            assert address == expected


def test_assigned_addresses_stay_and_differ(say: Say) -> None:
    """An assigned address is the same at each start, and is in no manifest."""
    made_up = service(say, "{}").cluster_ips
    assert service(say, "{}").cluster_ips == made_up
    text = "apiVersion: v1\nkind: Service\nmetadata: {{name: {}}}\nspec: {}\n---\n"
    both = say(text.format("web", "{}") + text.format("other", f"{{clusterIP: {made_up[0]}}}"))
    (moved,) = (item.cluster_ips for item in both.objects.values() if isinstance(item, Service) and item.name == "web")
    assert moved != made_up


def test_fields(say: Say) -> None:
    """The protocol defaults to TCP. Addresses in externalIPs come before those of the load balancer."""
    found = service(
        say,
        "{type: LoadBalancer, externalIPs: [192.0.2.1], ports: [{port: 80, name: http}, {port: 53, protocol: UDP, targetPort: dns}]}",
        "{loadBalancer: {ingress: [{ip: 192.0.2.2}, {hostname: lb.example}, {}]}}",
    )
    assert found.ports == (Port("http", "TCP", 80), Port("", "UDP", 53))
    assert found.external_ips == ("192.0.2.1", "192.0.2.2", "lb.example")
    assert found.external_name is None


def test_without_ports(say: Say) -> None:
    """A Service without ports gets a placeholder port. `externalName` is used only for the type ExternalName."""
    assert service(say, "{externalName: a.example}").ports == PLACEHOLDER_PORTS
    assert service(say, "{externalName: a.example}").external_name is None
    assert service(say, "{type: ExternalName, externalName: a.example}").external_name == "a.example"


def test_full_range(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are more Services than addresses, the search for an address ends with an error."""
    monkeypatch.setattr("svcdns.sources.manifests.services.SERVICE_RANGE", IPv4Network("10.96.0.0/30"))
    text = "".join(f"apiVersion: v1\nkind: Service\nmetadata: {{name: web-{number}}}\n---\n" for number in range(3))
    with pytest.raises(
        ManifestError, match=r"cluster\.yaml:9: expected no more Services than 10\.96\.0\.0/30 has addresses"
    ):
        say(text)
