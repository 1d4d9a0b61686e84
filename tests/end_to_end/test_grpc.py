"""DNS over gRPC, with real processes: the plugin *grpc* as a client, and policies by the address of the client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from svcdns.upstream import dns_packet
from tests.support.certificates import authority, pair
from tests.support.encrypted import Http2Client
from tests.support.server import Server, free_port, until

pytestmark = pytest.mark.slow

COREFILE = """
grpc://.:{grpc} {
    bind 127.0.0.1
    tls {dir}/server.crt {dir}/server.key
    acl {
        block net 127.0.0.3
    }
    view inside {
        expr incidr(client_ip(), '127.0.0.2/32')
    }
    template IN A {
        answer "{{ .Name }} 60 IN A 192.0.2.2"
    }
    log . "{remote} {proto} {name}"
    prometheus 127.0.0.1:{metrics}
}
grpc://.:{grpc} {
    bind 127.0.0.1
    tls {dir}/server.crt {dir}/server.key
    acl {
        block net 127.0.0.3
    }
    template IN A {
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
}
.:{port} {
    bind 127.0.0.1
    grpc . 127.0.0.1:{grpc} {
        tls {dir}/ca.crt
        tls_servername dns.test
    }
    ready 127.0.0.1:{ready}
}
"""


class GrpcServer(Server):
    """The server of these tests, with a port for gRPC."""

    def write(self, corefile: str) -> None:
        """Writes the Corefile, with the ports and the folder in its placeholders."""
        self.ports.setdefault("grpc", free_port())
        super().write(corefile)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GrpcServer]:
    pair().write(tmp_path)
    authority().write(tmp_path)
    with GrpcServer(tmp_path, COREFILE) as running:
        running.until_ready()
        yield running


async def asked(server: Server, client: str, names: list[str]) -> list[str]:
    """Sends queries on one connection from the address `client`. Returns the address or the response code of each."""
    context: ssl.SSLContext = authority().client()
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.ports["grpc"], ssl=context, server_hostname="dns.test", local_addr=(client, 0)
    )
    connection, found = Http2Client(reader, writer), []
    for name in names:
        packet = dns_packet.to_packet(dns.message.make_query(name, "A").to_wire())
        octets = b"\0" + len(packet).to_bytes(4, "big") + packet
        stream = connection.send(octets, path=dns_packet.METHOD, more=[("content-type", "application/grpc")])
        _, body = await connection.response(stream)
        reply = dns.message.from_wire(dns_packet.from_packet(body[5:]))
        found.append(str(reply.answer[0][0]) if reply.answer else dns.rcode.to_text(reply.rcode()))
    writer.close()
    await writer.wait_closed()
    return found


def test_policies_and_upstreams(server: GrpcServer) -> None:
    """Views, *acl* and *log* see the address of the client, also for replies from the answer table."""
    for _ in range(2):
        for client, expected in (("127.0.0.2", "192.0.2.2"), ("127.0.0.1", "192.0.2.1"), ("127.0.0.3", "REFUSED")):
            assert asyncio.run(asked(server, client, ["a.test."] * 4)) == [expected] * 4
    assert "127.0.0.2 tcp a.test." in server.log
    until("a reply through the upstream", lambda: server.records("b.test.") == ["192.0.2.1"])
    labels = f'server="grpc://127.0.0.1:{server.ports["grpc"]}"'
    until(
        "the metric",
        lambda: (
            server.metric(
                f'coredns_dns_requests_total{{family="1",proto="tcp",{labels},type="A",view="inside",zone="."}}'
            )
            == 8
        ),
    )
