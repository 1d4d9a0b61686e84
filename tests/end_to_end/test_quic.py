"""DNS over QUIC and HTTP/3 with a real server: reload, a new certificate, an upgrade in place, and a stop."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived

from tests.support.certificates import Authority, authority, pair
from tests.support.server import TIMEOUT, Server, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]
COREFILE = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    whoami
    reload 2s 0
}
quic://.:{quic} {
    bind 127.0.0.1
    prometheus 127.0.0.1:{metrics}
    root {dir}
    tls server.crt server.key
    log
    erratic {
        drop 0
        delay 1 DELAY
    }
}
https3://.:{https3} {
    bind 127.0.0.1
    root {dir}
    tls server.crt server.key
    log
    whoami
}
"""


class QuicServer(Server):
    """A server with the ports {quic} and {https3} in its Corefile."""

    def write(self, corefile: str) -> None:
        for name in ("quic", "https3"):
            self.ports.setdefault(name, free_port())
        super().write(corefile)


class Client(QuicConnectionProtocol):
    """A connection of a client."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._open: dict[int, asyncio.Future[bytes]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            found = self._open.pop(event.stream_id, None)
            if found is not None and not found.done():
                found.set_result(event.data)

    async def ask(self) -> bool:
        """Sends a query, and returns True when its reply has come."""
        packet = dns.message.make_query("a.b.", "A", id=0).to_wire()
        stream = self._quic.get_next_available_stream_id()
        done = self._open[stream] = asyncio.get_running_loop().create_future()
        self._quic.send_stream_data(stream, len(packet).to_bytes(2, "big") + packet, end_stream=True)
        self.transmit()
        reply = await asyncio.wait_for(done, TIMEOUT)
        return dns.message.from_wire(reply[2:]).rcode() == 0

    @property
    def closed_with(self) -> int | None:
        event = self._quic._close_event
        return None if event is None else event.error_code

    async def closed(self) -> int | None:
        """Waits until the server has closed the connection, and returns the error code."""
        async with asyncio.timeout(TIMEOUT):
            while self.closed_with is None:
                await asyncio.sleep(0.02)
        return self.closed_with

    @property
    def certificate(self) -> int:
        """Returns the serial number of the server's certificate."""
        found: Any = self._quic.tls._peer_certificate
        return int(found.serial_number)


@asynccontextmanager
async def connected(server: QuicServer) -> AsyncIterator[Client]:
    configuration = QuicConfiguration(alpn_protocols=["doq"], verify_mode=ssl.CERT_NONE, idle_timeout=TIMEOUT)
    async with connect(
        "127.0.0.1", server.ports["quic"], configuration=configuration, create_protocol=Client
    ) as client:
        assert isinstance(client, Client)
        yield client


async def logged(server: QuicServer, text: str) -> None:
    async with asyncio.timeout(TIMEOUT):
        while text not in server.log:
            await asyncio.sleep(0.05)


def started(folder: Path, delay: str = "1ms") -> QuicServer:
    pair().write(folder)
    authority().write(folder)
    return QuicServer(folder, COREFILE.replace("DELAY", delay))


async def test_queries_with_dnspython(tmp_path: Path) -> None:
    """The certificate is verified. The log and the metrics have the client, the transport and the listener."""
    with started(tmp_path) as server:
        server.until_ready()
        query, ca = dns.message.make_query("a.b.", "A"), str(tmp_path / "ca.crt")
        port = server.ports["quic"]
        assert dns.query.quic(query, "127.0.0.1", TIMEOUT, port, server_hostname="dns.test", verify=ca).rcode() == 0
        url, version = f"https://dns.test:{server.ports['https3']}/dns-query", dns.query.HTTPVersion.H3
        for post in (True, False):
            reply = dns.query.https(
                query, url, TIMEOUT, bootstrap_address="127.0.0.1", http_version=version, post=post, verify=ca
            )
            assert reply.rcode() == 0
        assert '"A IN a.b. udp' in server.log
        await logged(server, "127.0.0.1:")
        async with asyncio.timeout(TIMEOUT):
            while server.metric('coredns_dns_https3_responses_total{[^}]*status="200"') < 2:
                await asyncio.sleep(0.1)
        assert server.metric('coredns_dns_quic_responses_total{[^}]*status="0x0"') == 1
        assert server.metric(f'coredns_dns_requests_total{{[^}}]*proto="udp",server="quic://127.0.0.1:{port}"') == 1


async def test_reload_and_new_certificate(tmp_path: Path) -> None:
    """Open connections go on. New connections get the new certificate."""
    with started(tmp_path) as server:
        server.until_ready()
        async with connected(server) as client:
            assert await client.ask()
            server.write(COREFILE.replace("DELAY", "2ms"))
            await logged(server, "Reloading complete")
            assert await client.ask()
            Authority().pair("dns.test").write(tmp_path)
            async with asyncio.timeout(TIMEOUT):
                while "was read again" not in server.log:
                    assert await client.ask()  # a connection that is idle for 10 s is closed
                    await asyncio.sleep(0.5)
            assert await client.ask()
            async with asyncio.timeout(TIMEOUT):
                while True:
                    async with connected(server) as other:
                        assert await other.ask()
                        if other.certificate != client.certificate:
                            break
            assert client.closed_with is None


async def test_upgrade_in_place_and_stop(tmp_path: Path) -> None:
    """A query in flight gets its reply, and its connection is then closed with DOQ_NO_ERROR."""
    with started(tmp_path, "700ms") as server:
        server.until_ready()
        for number, text in ((signal.SIGUSR2, "the upgrade is complete"), (signal.SIGTERM, "Shutting down servers")):
            async with connected(server) as client:
                asking = asyncio.get_running_loop().create_task(client.ask())
                await asyncio.sleep(0.2)  # the query reaches the plugin, which answers later
                server.process.send_signal(number)
                assert await asking
                assert await client.closed() == 0
                await logged(server, text)
        assert server.process.wait(TIMEOUT) == 0
        assert "Traceback" not in server.log
