"""DNS over HTTPS with real processes: policy, the life of the worker for encrypted transports, and an upgrade."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from h2.errors import ErrorCodes

from tests.support.certificates import authority, pair
from tests.support.encrypted import Http2Client, packet
from tests.support.server import Server, free_port, until

PLAIN = """
.:{port} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    whoami
}
"""
ENCRYPTED = """
https://.:{https} {
    bind 127.0.0.1
    root {dir}
    tls server.crt server.key
    prometheus 127.0.0.1:{metrics}
    POLICY
    whoami
}
"""

pytestmark = pytest.mark.slow


class HttpsServer(Server):
    """A server with a port for HTTPS: {https} in its Corefile."""

    def write(self, corefile: str) -> None:
        self.ports.setdefault("https", free_port())
        super().write(corefile)

    async def connect(self) -> Http2Client:
        context = authority().client()
        context.set_alpn_protocols(["h2"])
        port = self.ports["https"]
        return Http2Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="dns.test"))

    def rcode(self, name: str = "a.b.") -> int:
        """Returns the response code of a query over a new connection, or -1."""

        async def ask() -> int:
            try:
                client = await self.connect()
                try:
                    return int((await client.reply(packet(name))).rcode())
                finally:
                    client.writer.transport.abort()
            except (OSError, AssertionError):
                return -1

        return asyncio.run(ask())


@contextmanager
def serving(folder: Path, policy: str = "") -> Iterator[HttpsServer]:
    pair().write(folder)
    with HttpsServer(folder, PLAIN + ENCRYPTED.replace("POLICY", policy)) as server:
        server.until_ready()
        yield server


@pytest.mark.parametrize(
    ("policy", "rcode"),
    [
        pytest.param("acl {\n block net 127.0.0.1\n }", 5, id="acl"),
        pytest.param("acl {\n allow net 127.0.0.1\n block\n }", 0, id="acl allows"),
        pytest.param("view a {\n expr client_ip() == '127.0.0.1' && proto() == 'tcp'\n }", 0, id="view"),
        pytest.param("view a {\n expr proto() == 'udp'\n }", 5, id="another view"),
        pytest.param("rrl . {\n responses-per-second 1\n }", 0, id="rrl does not limit connections"),
    ],
)
def test_policy(policy: str, rcode: int, tmp_path: Path) -> None:
    """The plugins see the client's address and TCP, also when the same query comes again."""
    with serving(tmp_path, policy) as server:
        assert [server.rcode() for _ in range(4)] == [rcode] * 4


def test_a_server_without_plain_transports_is_ready(tmp_path: Path) -> None:
    """The worker for plain transports has no sockets. A reload that adds one gives it a socket."""
    corefile = ENCRYPTED.replace("POLICY", "ready 127.0.0.1:{ready}\n reload 2s 0")
    pair().write(tmp_path)
    with HttpsServer(tmp_path, corefile) as server:
        server.until_ready()
        assert server.rcode() == 0
        server.write(corefile + ".:{port} {\n bind 127.0.0.1\n whoami\n}\n")
        until("an answer over UDP", server.answers)


def test_the_query_log(tmp_path: Path) -> None:
    with serving(tmp_path, "log") as server:
        assert server.rcode() == 0
        server.until_logged('- 0 "A IN a.b. tcp ')
        until(
            "the metric",
            lambda: (
                server.metric('coredns_dns_https_responses_total{server="https://127.0.0.1:[0-9]+",status="200"}') == 1
            ),
        )


def test_a_reload_starts_and_ends_the_worker(tmp_path: Path) -> None:
    """Only a Corefile with such a transport has the worker with the last slot."""
    pair().write(tmp_path)
    with HttpsServer(tmp_path, PLAIN) as server:
        server.until_ready()
        name = "worker 63"
        assert server.rcode() == -1
        server.write(PLAIN + ENCRYPTED.replace("POLICY", ""))
        server.process.send_signal(signal.SIGUSR1)
        until("an answer", lambda: server.rcode() == 0)
        old = until("the worker", lambda: server.children().get(name, 0))
        os.kill(old, signal.SIGKILL)
        until("another worker", lambda: server.children().get(name, old) != old and server.rcode() == 0)
        server.write(PLAIN)
        server.process.send_signal(signal.SIGUSR1)
        until("the end of the worker", lambda: name not in server.children())


def test_an_upgrade_in_place(tmp_path: Path) -> None:
    """The old worker sends GOAWAY after a reply. A client that sends refused requests again gets all replies."""
    with serving(tmp_path) as server:

        async def ask_until_done() -> tuple[int, int]:
            client, connections, answered = await server.connect(), 1, 0
            ends = None
            while ends is None or time.monotonic() < ends:
                stream = client.send(packet())
                while stream not in client.finished and stream not in client.reset:
                    assert await client.receive()
                if stream in client.reset:
                    assert client.reset[stream] == ErrorCodes.REFUSED_STREAM
                answered += stream in client.finished
                if client.goodbye is not None:
                    client.writer.transport.abort()
                    client, connections = await server.connect(), connections + 1
                if ends is None and "the upgrade is complete" in server.log:
                    ends = time.monotonic() + 0.5
                await asyncio.sleep(0.005)
            client.writer.transport.abort()
            return connections, answered

        server.process.send_signal(signal.SIGUSR2)
        connections, answered = asyncio.run(ask_until_done())
        assert connections == 2
        assert answered > 20
