"""A client that a policy refuses is refused over every transport, whatever other clients have queried before.

To test a new policy, add a block to the Corefile, and a `Case`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import dns.message
import dns.query
import dns.rcode
import pytest

from svcdns.upstream import dns_packet
from tests.support.certificates import authority, pair
from tests.support.encrypted import Http2Client, target
from tests.support.proxy_headers import version_2
from tests.support.server import TIMEOUT, Server, free_port, until

ALLOWED, REFUSED, MOVING = "127.0.0.2", "127.0.0.3", "127.0.0.4"
"""Addresses of clients: of a Pod in the namespace `a`, of a Pod in the namespace `b`, and of a Pod that is replaced."""
TRANSPORTS: Final = ("udp", "tcp", "tls")
ENCRYPTED: Final = ("https", "http1", "grpc", "quic", "https3")
"""The transports of the worker for encrypted transports. `http1` is HTTPS with HTTP/1.1."""
TIMES: Final = 4
"""How often a client sends each query: the answer table has the reply from the third time on."""
COREFILE = """
(acl) {
    acl {
        block net 127.0.0.3
    }
    cache 30
    template IN A acl.test {
        answer "{{ .Name }} 60 IN A 192.0.2.7"
    }
}
(view) {
    view inside {
        expr incidr(client_ip(), '127.0.0.2/32')
    }
    cache 30
    template IN A view.test {
        answer "{{ .Name }} 60 IN A 192.0.2.9"
    }
}
(cluster) {
    rewrite name regex (.*)\\.short\\.cluster\\.local {1}.a.svc.cluster.local answer auto
    visibility {
        own
        shared labels shared=true
    }
    cache 30
    k8s_external ext.test
    kubernetes cluster.local in-addr.arpa {
        manifests {dir}/cluster
    }
}
(alias) {
    cache 30
    template IN A alias.test {
        match (?P<name>[a-z0-9]+)\\.alias\\.test
        answer "{{ .Name }} 60 IN CNAME {{ .Group.name }}.a.svc.cluster.local."
    }
}
(toview) {
    cache 30
    template IN A toview.test {
        match (?P<name>[a-z0-9]+)\\.toview\\.test
        answer "{{ .Name }} 60 IN CNAME {{ .Group.name }}.view.test."
    }
}
(target) {
    cache 30
    template IN A target.test {
        answer "{{ .Name }} 60 IN A 192.0.2.8"
    }
}
"""
ZONES: Final = {
    "acl": ("acl.test",),
    "view": ("view.test",),
    "cluster": ("cluster.local", "in-addr.arpa", "ext.test"),
    "alias": ("alias.test",),
    "toview": ("toview.test",),
    "target": ("target.test",),
}
COREFILE += "".join(
    f"{' '.join(f'{zone}:{{port}}' for zone in zones)} {{\n bind 127.0.0.1\n MORE{block}\n import {block}\n}}\n"
    f"{' '.join(f'tls://{zone}:{{tls}}' for zone in zones)} {{\n bind 127.0.0.1\n root {{dir}}\n"
    f" tls server.crt server.key\n import {block}\n}}\n"
    for block, zones in ZONES.items()
)
PROXIED: Final = """
    bind 127.0.0.1
    proxyproto {
        allow 127.0.0.9/32
    }
    acl acl.test {
        block net 127.0.0.3
    }
    view inside {
        expr name() endsWith 'acl.test.' or incidr(client_ip(), '127.0.0.2/32')
    }
    cache 30
    template IN A . {
        answer "{{ .Name }} 60 IN A 192.0.2.7"
    }
}
"""
COREFILE += "acl.test:{proxied} view.test:{proxied} {" + PROXIED
COREFILE += (
    "tls://acl.test:{proxied_tls} tls://view.test:{proxied_tls} {\n root {dir}\n tls server.crt server.key" + PROXIED
)
COREFILE = COREFILE.replace("MOREacl", "ready 127.0.0.1:{ready}\n prometheus 127.0.0.1:{metrics}\n reload 2s 0")
COREFILE = COREFILE.replace("MOREcluster", "prometheus 127.0.0.1:{metrics}\n")
for block in ZONES:
    COREFILE = COREFILE.replace(f"MORE{block}", "")


class Case(NamedTuple):
    """A query, the result for the allowed client, and the result for the refused client. A result is RDATA or an rcode.

    In `name` and `allowed`, `<N>` stands for a number that is different for each transport and order of the clients.
    """

    policy: str
    name: str
    rtype: str
    allowed: str
    refused: str


CASES: Final = (
    Case("acl", "n<N>.acl.test.", "A", "192.0.2.7", "REFUSED"),
    Case("view", "n<N>.view.test.", "A", "192.0.2.9", "REFUSED"),
    Case("alias into a view", "n<N>.toview.test.", "A", "192.0.2.9", "no address"),
    Case("visibility", "s<N>.a.svc.cluster.local.", "A", "10.96.1.<N>", "NXDOMAIN"),
    Case("visibility", "s<N>.a.svc.cluster.local.", "SRV", "0 100 80 s<N>.a.svc.cluster.local.", "NXDOMAIN"),
    Case("visibility", "s<N>.a.svc.cluster.local.", "AAAA", "NOERROR", "NXDOMAIN"),
    Case("visibility", "<N>.1.96.10.in-addr.arpa.", "PTR", "s<N>.a.svc.cluster.local.", "NXDOMAIN"),
    Case("visibility", "s<N>.a.ext.test.", "A", "192.0.2.1<N>", "NXDOMAIN"),
    Case("visibility, alias outside", "e<N>.a.svc.cluster.local.", "A", "192.0.2.8", "NXDOMAIN"),
    Case("rewrite to a hidden name", "s<N>.short.cluster.local.", "A", "10.96.1.<N>", "NXDOMAIN"),
    Case("alias to a hidden name", "s<N>.alias.test.", "A", "10.96.1.<N>", "no address"),
    Case("alias to a hidden alias", "e<N>.alias.test.", "A", "192.0.2.8", "no address"),
)
ORDERS: Final = ("allowed first", "refused first")
COMBINATIONS: Final = tuple(itertools.product(TRANSPORTS, ORDERS))
ENCRYPTED_COMBINATIONS: Final = tuple(itertools.product(ENCRYPTED, ORDERS))
WITH_ENCRYPTED: Final = re.sub(
    r"tls://(\S+):\{tls\}",
    r"tls://\1:{tls} quic://\1:{tls} https://\1:{https3} https3://\1:{https3} grpc://\1:{grpc}",
    COREFILE,
)
"""The Corefile with listeners for HTTPS, gRPC and QUIC in addition."""


def manifests() -> str:
    """Returns the manifests of the cluster: a Service and an alias for each combination, and the clients as Pods."""
    out = [pod("allowed", "a", ALLOWED), pod("refused", "b", REFUSED)]
    for number in range(1, max(len(COMBINATIONS), len(ENCRYPTED_COMBINATIONS)) + 1):
        metadata = f"metadata: {{name: s{number}, namespace: a}}"
        spec = f"clusterIP: 10.96.1.{number}, externalIPs: [192.0.2.1{number}], ports: [{{port: 80}}]"
        out.append(f"{{apiVersion: v1, kind: Service, {metadata}, spec: {{{spec}}}}}")
        metadata = f"metadata: {{name: e{number}, namespace: a}}"
        spec = f"type: ExternalName, externalName: t{number}.target.test"
        out.append(f"{{apiVersion: v1, kind: Service, {metadata}, spec: {{{spec}}}}}")
    return "\n---\n".join(out)


def pod(name: str, namespace: str, address: str) -> str:
    metadata = f"metadata: {{name: {name}, namespace: {namespace}}}"
    return f"{{apiVersion: v1, kind: Pod, {metadata}, status: {{podIP: {address}}}}}"


class PolicyServer(Server):
    """The server of this module. It has a port for TLS."""

    def write(self, corefile: str) -> None:
        """Writes the Corefile, with the ports and the folder in its placeholders."""
        for name in ("tls", "https3", "grpc", "proxied", "proxied_tls"):
            self.ports.setdefault(name, free_port())
        super().write(corefile)

    def result(self, name: str, rtype: str, client: str, transport: str) -> str:
        """Sends a query from the address `client`. Returns the last RDATA of the answer, or the rcode."""
        query = dns.message.make_query(name, rtype)
        options: dict[str, Any] = {"source": client, "one_rr_per_rrset": True}
        if transport == "tls":
            context = authority().client()
            reply = dns.query.tls(
                query, "127.0.0.1", 5, self.ports["tls"], ssl_context=context, server_hostname="dns.test", **options
            )
        elif transport == "quic":
            options |= {"verify": str(self.folder / "ca.crt"), "server_hostname": "dns.test"}
            reply = dns.query.quic(query, "127.0.0.1", TIMEOUT, self.ports["tls"], **options)
        elif transport == "https3":
            url = f"https://dns.test:{self.ports['https3']}/dns-query"
            options |= {"verify": str(self.folder / "ca.crt"), "bootstrap_address": "127.0.0.1"}
            reply = dns.query.https(query, url, TIMEOUT, http_version=dns.query.HTTPVersion.H3, **options)
        elif transport in ("https", "http1", "grpc"):
            reply = asyncio.run(self._over_http(query, client, transport))
        else:
            send = dns.query.tcp if transport == "tcp" else dns.query.udp
            reply = send(query, "127.0.0.1", 5, self.ports["port"], **options)
        found: list[str] = [rrset[0].to_text() for rrset in reply.answer if rrset.rdtype == query.question[0].rdtype]
        if found:
            return found[-1]
        return "no address" if reply.answer else dns.rcode.to_text(reply.rcode())

    async def _over_http(self, query: dns.message.Message, client: str, transport: str) -> dns.message.Message:
        """Sends a query on a new connection with HTTP/2, HTTP/1.1 or gRPC."""
        port = self.ports["grpc" if transport == "grpc" else "https3"]
        context = authority().client()
        context.set_alpn_protocols(["http/1.1" if transport == "http1" else "h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="dns.test", local_addr=(client, 0)
        )
        try:
            body = await _body(reader, writer, transport, query.to_wire())
        finally:
            writer.transport.abort()
        return dns.message.from_wire(body, one_rr_per_rrset=True)

    def result_by_proxy(self, name: str, client: str, transport: str, proxy: str = "127.0.0.9") -> str:
        """Returns the address, or the rcode, of a query that the address `proxy` sends for `client`."""
        query = dns.message.make_query(name, "A")
        wire, header = query.to_wire(), version_2(client, tcp=transport != "udp")
        port = self.ports["proxied_tls" if transport == "tls" else "proxied"]
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
            sock.bind((proxy, 0))
            sock.settimeout(TIMEOUT)
            sock.connect(("127.0.0.1", port))
            if transport == "udp":
                sock.send(header + wire)
                reply = sock.recv(4096)
            else:
                sock.sendall(header)
                if transport == "tls":
                    sock = stack.enter_context(authority().client().wrap_socket(sock, server_hostname="dns.test"))
                sock.sendall(len(wire).to_bytes(2, "big") + wire)
                reply = dns.query.receive_tcp(sock)[0].to_wire()
        found = dns.message.from_wire(reply)
        assert found.id == query.id
        return found.answer[0][0].to_text() if found.answer else dns.rcode.to_text(found.rcode())


async def _body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, transport: str, query: bytes) -> bytes:
    """Sends an encoded query, and returns the encoded reply."""
    if transport == "http1":
        head = f"GET {target(query)} HTTP/1.1\r\nHost: dns.test\r\nAccept: application/dns-message\r\n\r\n"
        writer.write(head.encode())
        found = re.search(rb"(?i)content-length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
        assert found is not None
        return await reader.readexactly(int(found[1]))
    http = Http2Client(reader, writer)
    if transport == "https":
        return (await http.response(http.send(path=target(query), method="GET")))[1]
    packet = dns_packet.to_packet(query)
    call = b"\0" + len(packet).to_bytes(4, "big") + packet
    stream = http.send(call, path=dns_packet.METHOD, more=[("content-type", "application/grpc")])
    return dns_packet.from_packet((await http.response(stream))[1][5:])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyServer]:
    """A running server with all policies."""
    folder: Path = tmp_path_factory.mktemp("policy")
    (folder / "cluster").mkdir()
    (folder / "cluster" / "all.yaml").write_text(manifests())
    (folder / "cluster" / "moving.yaml").write_text(pod("moving-a", "a", MOVING))
    with run(folder, COREFILE) as running:
        yield running


@contextlib.contextmanager
def run(folder: Path, corefile: str) -> Iterator[PolicyServer]:
    pair().write(folder)
    authority().write(folder)
    with PolicyServer(folder, corefile) as running:
        running.until_ready()
        yield running


def test_what_is_refused_stays_refused(server: PolicyServer) -> None:
    """The clients send queries in each order, over each transport, once and again. Afterwards all queries are sent in
    random order.
    """
    check_all(server, COMBINATIONS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_what_is_refused_stays_refused_over_encrypted_transports(tmp_path: Path) -> None:
    """Each query needs a handshake of the client. (dnspython leaves a socket open after each one.)"""
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "all.yaml").write_text(manifests())
    with run(tmp_path, WITH_ENCRYPTED) as server:
        check_all(server, ENCRYPTED_COMBINATIONS)


def check_all(server: PolicyServer, combinations: tuple[tuple[str, str], ...]) -> None:
    asked: list[tuple[str, str, str, str]] = []
    wrong: list[str] = []

    def check(name: str, rtype: str, client: str, transport: str, expected: str, when: str) -> None:
        found = server.result(name, rtype, client, transport)
        if found != expected:
            wrong.append(f"{name} {rtype} from {client} over {transport}, {when}: {found}, {expected} was expected")

    for number, (transport, order) in enumerate(combinations, 1):
        clients = (ALLOWED, REFUSED) if order == "allowed first" else (REFUSED, ALLOWED)
        for case in CASES:
            name = case.name.replace("<N>", str(number))
            for client in clients:
                expected = case.allowed.replace("<N>", str(number)) if client == ALLOWED else case.refused
                for time in range(TIMES):
                    check(name, case.rtype, client, transport, expected, f"{case.policy}, {order}, {time} times before")
                asked.append((name, case.rtype, client, expected))
    rng = Random(17)
    for name, rtype, client, expected in rng.sample(asked, len(asked)):
        check(name, rtype, client, rng.choice(combinations)[0], expected, "warm")
    assert wrong == []
    until("hits of the answer table", lambda: server.metric("svcdns_answer_table_hits_total") > len(asked))
    assert server.metric("coredns_cache_hits_total") > 0
    assert server.metric("svcdns_visibility_hidden_total") > 0


def test_an_address_that_passes_to_another_pod(server: PolicyServer) -> None:
    """After the change of the manifests has been read, the address has no rights of the old Pod."""
    name = "s1.a.svc.cluster.local."
    for transport in TRANSPORTS * TIMES:
        assert server.result(name, "A", MOVING, transport) == "10.96.1.1"
    (server.folder / "cluster" / "moving.yaml").write_text(pod("moving-b", "b", MOVING))
    until("the new Pod", lambda: server.result(name, "A", MOVING, "udp") == "NXDOMAIN")
    for transport in TRANSPORTS * TIMES:
        assert server.result(name, "A", MOVING, transport) == "NXDOMAIN"


def test_clients_behind_a_proxy(server: PolicyServer) -> None:
    """Policies apply to the client that the proxy names, over each transport, in each order, cold and warm.

    A client that names another one itself is treated as itself.
    """
    wrong: list[str] = []
    for number, (transport, order) in enumerate(COMBINATIONS, 1):
        clients = (ALLOWED, REFUSED) if order == "allowed first" else (REFUSED, ALLOWED)
        for zone, client, time in itertools.product(("acl.test", "view.test"), clients, range(TIMES)):
            expected = "192.0.2.7" if client == ALLOWED else "REFUSED"
            name = f"p{number}.{zone}."
            found = server.result_by_proxy(name, client, transport)
            lie = server.result_by_proxy(name, ALLOWED, transport, proxy=REFUSED)
            if (found, lie) != (expected, "REFUSED"):
                wrong.append(f"{name} for {client} over {transport}, {order}, {time} times before: {found}, {lie}")
    assert wrong == []
