"""Denials with a real server: names that were never asked for, and a name that begins to exist."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from bench import virtual_network
from bench.client import make_query
from tests.support.accelerated import ADDRESSES, SOCKET, Pod
from tests.support.server import REPLY_TIMEOUT, Server, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

CLUSTER = Path(__file__).parents[2] / "zones" / "cluster.yaml"
COREFILE = """
.:{port} {
    prometheus 127.0.0.1:{metrics}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests {dir}/cluster.yaml
    }
    forward . 127.0.0.1:9
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
}
"""
SERVICE = """
---
apiVersion: v1
kind: Service
metadata:
  name: com
  namespace: default
spec:
  clusterIP: None
  ports:
    - port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: com
  namespace: default
  labels:
    kubernetes.io/service-name: com
addressType: IPv4
endpoints:
  - addresses: [10.244.77.7]
    hostname: web
ports:
  - port: 80
"""


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    if reason := virtual_network.why_unavailable():
        pytest.skip(reason)
    with Pod(tmp_path_factory.mktemp("pod")) as made:
        yield made


@pytest.fixture
def server(pod: Pod, tmp_path: Path) -> Iterator[Server]:
    """A server whose cluster is in the file `cluster.yaml` of its folder."""
    shutil.copy(CLUSTER, tmp_path / "cluster.yaml")
    with pod.pod.entered(), Server(tmp_path, COREFILE, SVCDNS_ACCELERATOR=SOCKET) as made:
        until("the accelerator", lambda: made.metric("svcdns_accelerator_up") == 1)
        yield made


class Client:
    """A client at the node's end of the interface."""

    def __init__(self, pod: Pod, server: Server, family: str) -> None:
        self.pod, self.target = pod, (ADDRESSES[family].pod, server.ports["port"])
        self.family = socket.AF_INET6 if family == "IPv6" else socket.AF_INET

    def ask(self, name: str, rtype: str = "A", timeout: float = REPLY_TIMEOUT) -> dns.message.Message | None:
        """Returns the reply, or None if there is none in time."""
        with self.pod.node.socket(self.family) as sock:
            sock.settimeout(timeout)
            sock.connect(self.target)
            sock.send(make_query(name, rtype, 0x1234))
            try:
                return dns.message.from_wire(sock.recv(4096))
            except TimeoutError:
                return None

    def only_kernel(self, name: str, rtype: str = "A") -> dns.message.Message | None:
        """Returns the kernel's reply, or None if the kernel passes the query on."""
        with self.pod.only_kernel():
            return self.ask(name, rtype, 0.3)

    def warm(self, name: str) -> None:
        """Asks for a name until the kernel answers."""
        until("the kernel's reply", lambda: self.ask(name) and self.only_kernel(name))


REST = "default.svc.cluster.local"
WALKS = {
    "namespace": ("www.example.com", "api.letters.com", REST),
    "svc": ("www.example.com", "a.b.c.words.com", "svc.cluster.local"),
    "zone": ("www.example.com", "xxxxxxxxxxx.com", "cluster.local"),
}


@pytest.mark.parametrize("family", ADDRESSES)
def test_a_name_that_was_never_asked_for(pod: Pod, server: Server, family: str) -> None:
    """The kernel's reply is that of the server. A name with another child label goes to the server."""
    client = Client(pod, server, family)
    for first, second, rest in WALKS.values():
        client.warm(f"{first}.{rest}")
        found = client.only_kernel(f"{second}.{rest}")
        assert found is not None
        assert found == client.ask(f"{second}.{rest}", "A")
        assert found.rcode() == dns.rcode.NXDOMAIN
        assert client.only_kernel(f"{second.replace('com', 'org')}.{rest}") is None
        assert client.only_kernel(f"{second}.{rest}", "AAAA") is None


def test_a_name_that_begins_to_exist(pod: Pod, server: Server) -> None:
    client = Client(pod, server, "IPv4")
    client.warm(f"www.com.{REST}")
    missing = client.only_kernel(f"web.com.{REST}")
    assert missing is not None
    assert missing.rcode() == dns.rcode.NXDOMAIN
    with (server.folder / "cluster.yaml").open("a") as out:
        out.write(SERVICE)

    def address() -> str:
        reply = client.ask(f"web.com.{REST}")
        return str(reply.answer[0][0]) if reply is not None and reply.answer else ""

    until("the new address", lambda: address() == "10.244.77.7", timeout=20)
    until("the kernel's reply", lambda: client.only_kernel(f"web.com.{REST}") is not None or not address())
    assert client.only_kernel(f"xyz.com.{REST}") is None
