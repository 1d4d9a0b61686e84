"""*forward* with real name servers on loopback: Unbound, NSD, Knot and dnsmasq. A test is skipped if its server is not
installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from svcdns.eventloop.clock import monotonic
from svcdns.plugin_api.query import Client
from svcdns.plugins.forward import gather
from svcdns.wire.codes import TC, Rcode
from tests.support import world
from tests.support.certificates import authority, pair
from tests.support.forwarding import Forwarding
from tests.support.server import TIMEOUT, free_port
from tests.support.upstreams import all_finished

pytestmark = pytest.mark.integration

OVER_TCP = Client("192.0.2.1", 40000, "192.0.2.53", 53, "tcp")
NAMES = 40
LONG = " ".join(f'"{"x" * 180}{number}"' for number in range(4))
RECORDS = [
    *(f"n{number}.example. 300 IN A 192.0.2.{number}" for number in range(NAMES)),
    f"long.example. 300 IN TXT {LONG}",
]
ZONE = "\n".join(
    [
        "example. 300 IN SOA ns.example. host.example. 1 7200 1800 86400 300",
        "example. 300 IN NS ns.example.",
        "ns.example. 300 IN A 127.0.0.1",
        *RECORDS,
        "",
    ]
)


def unbound(folder: Path, port: int) -> list[str]:
    """Returns the command line of Unbound, with a static local zone."""
    data = "".join(f"  local-data: '{line}'\n" for line in RECORDS)
    (folder / "conf").write_text(
        f'server:\n  interface: 127.0.0.1\n  port: {port}\n  do-daemonize: no\n  use-syslog: no\n  username: ""\n  chroot: ""\n'
        f'  directory: "{folder}"\n  pidfile: ""\n  module-config: "iterator"\n  local-zone: "example." static\n{data}'
        "remote-control:\n  control-enable: no\n"
    )
    return ["unbound", "-d", "-c", str(folder / "conf")]


def nsd(folder: Path, port: int) -> list[str]:
    """Writes NSD's configuration and zone file, and returns its command line."""
    (folder / "zone").write_text(ZONE)
    (folder / "conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: ""\n  zonesdir: "{folder}"\n  database: ""\n'
        f'  zonelistfile: "{folder}/zone.list"\n  xfrdfile: "{folder}/xfrd"\n  xfrdir: "{folder}"\n  pidfile: "{folder}/pid"\n'
        f'remote-control:\n  control-enable: no\nzone:\n  name: "example"\n  zonefile: "{folder}/zone"\n'
    )
    return ["nsd", "-d", "-c", str(folder / "conf")]


def knotd(folder: Path, port: int) -> list[str]:
    """Writes Knot's configuration and zone file, and returns its command line."""
    (folder / "zone").write_text(ZONE)
    (folder / "conf").write_text(
        f'server:\n  rundir: "{folder}"\n  listen: 127.0.0.1@{port}\ndatabase:\n  storage: "{folder}"\n'
        f'zone:\n  - domain: example\n    storage: "{folder}"\n    file: "{folder}/zone"\n'
        "    journal-content: none\n    zonefile-load: whole\n    zonefile-sync: -1\n"
    )
    return ["knotd", "-c", str(folder / "conf")]


def dnsmasq(folder: Path, port: int) -> list[str]:
    """Writes dnsmasq's configuration and hosts file, and returns its command line."""
    (folder / "hosts").write_text("".join(f"192.0.2.{number} n{number}.example\n" for number in range(NAMES)))
    text = ",".join(word.strip('"') for word in LONG.split())
    (folder / "conf").write_text(
        f"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nuser=root\nkeep-in-foreground\npid-file={folder}/pid\nno-resolv\nno-hosts\n"
        f"addn-hosts={folder}/hosts\nlocal=/example/\ntxt-record=long.example,{text}\n"
    )
    return ["dnsmasq", f"--conf-file={folder}/conf"]


def unbound_over_tls(folder: Path, port: int) -> list[str]:
    """Returns the command line of Unbound that serves TLS only, with a certificate for dns.test."""
    certificate, key = pair().write(folder)
    command = unbound(folder, port)
    tls = f'server:\n  tls-port: {port}\n  tls-service-pem: "{certificate}"\n  tls-service-key: "{key}"\n'
    (folder / "conf").write_text((folder / "conf").read_text().replace("server:\n", tls, 1))
    return command


class NameServer:
    """A real name server that can be stopped and started."""

    def __init__(self, configure: Callable[[Path, int], list[str]], folder: Path) -> None:
        self.port = free_port()
        self._command = configure(folder, self.port)
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + TIMEOUT
        while not self._answers():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.2)
            client.connect(("127.0.0.1", self.port))
            try:
                client.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\2n0\7example\0\0\1\0\1")
                return bool(client.recv(512))
            except OSError:
                time.sleep(0.02)
                return False

    def stop(self) -> None:
        """Kills the server and its children. dnsmasq has a child for each TCP connection."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT)
        # A child of NSD has the sockets a little longer than the process that is waited for.
        deadline = time.monotonic() + TIMEOUT
        while not self._port_is_free():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _port_is_free(self) -> bool:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind(("127.0.0.1", self.port))
                udp.bind(("127.0.0.1", self.port))
            except OSError:
                return False
        return True


SERVERS = {"unbound": unbound, "nsd": nsd, "knotd": knotd, "dnsmasq": dnsmasq}


@pytest.fixture(params=SERVERS)
def name_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NameServer]:
    if not shutil.which(request.param):
        pytest.skip(f"no {request.param} in PATH")
    server = NameServer(SERVERS[request.param], tmp_path)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
async def _finished(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    with all_finished(monkeypatch):
        yield
    await asyncio.sleep(0)


@pytest.mark.parametrize("body", ["prefer_udp", "force_tcp"])
async def test_concurrent_queries(name_server: NameServer, body: str) -> None:
    forwarding = Forwarding(name_server, clock=monotonic, body=body)
    replies = await asyncio.gather(*(forwarding.ask(f"n{number}.example.") for number in range(NAMES)))
    assert [world.shown(reply.answer)[0].split()[-1] for reply in replies] == [
        f"192.0.2.{number}" for number in range(NAMES)
    ]
    assert (await forwarding.ask("none.example.")).rcode == Rcode.NXDOMAIN


async def test_a_long_reply(name_server: NameServer) -> None:
    """The reply is truncated over UDP with 512 octets. It is complete over TCP, and with a larger EDNS size."""
    forwarding = Forwarding(name_server, clock=monotonic)
    assert (await forwarding.ask("long.example.", "TXT")).flags & TC
    for fields in ({"client": OVER_TCP}, {"edns": world.edns(4096)}):
        reply = await forwarding.ask("long.example.", "TXT", **fields)
        assert not reply.flags & TC
        assert sum(len(record.rdata) for record in reply.answer) > 700


async def test_a_restarted_upstream(name_server: NameServer) -> None:
    """While the upstream is down, queries get SERVFAIL."""
    forwarding = Forwarding(name_server, clock=monotonic, body="force_tcp")
    assert (await forwarding.ask("n1.example.")).rcode == Rcode.NOERROR
    await asyncio.to_thread(name_server.stop)
    reply = await forwarding.ask("n2.example.")
    assert (reply.rcode, reply.extended) == (Rcode.SERVFAIL, 23)
    await asyncio.to_thread(name_server.start)
    async with asyncio.timeout(TIMEOUT):
        while (await forwarding.ask("n3.example.")).rcode != Rcode.NOERROR:
            await asyncio.sleep(0.05)


async def test_unbound_over_tls(tmp_path: Path) -> None:
    """Queries share one TLS connection. A wrong server name is SERVFAIL."""
    if not shutil.which("unbound"):
        pytest.skip("no unbound in PATH")
    server = NameServer(unbound_over_tls, tmp_path)
    body = f"tls {authority().write(tmp_path)}"
    known = gather(world.options("forward", f"forward . tls://::1 {{\n{body}\n}}"), {})
    try:
        for name, rcode in (("dns.test", Rcode.NOERROR), ("other.test", Rcode.SERVFAIL)):
            place = f"tls://127.0.0.1%{name}:{{}}"
            forwarding = Forwarding(server, clock=monotonic, place=place, body=body, data=lambda _, key: known[key])
            replies = await asyncio.gather(*(forwarding.ask(f"n{number}.example.") for number in range(NAMES)))
            assert {reply.rcode for reply in replies} == {rcode}
            if rcode == Rcode.NOERROR:
                assert (
                    forwarding.counted(
                        "coredns_proxy_conn_cache_misses_total", "forward", f"127.0.0.1:{server.port}", "tcp-tls"
                    )
                    == 1
                )
                long = await forwarding.ask("long.example.", "TXT")
                assert not long.flags & TC
                await asyncio.to_thread(server.stop)
                assert (await forwarding.ask("n2.example.")).rcode == Rcode.SERVFAIL
                await asyncio.to_thread(server.start)
                async with asyncio.timeout(TIMEOUT):
                    while (await forwarding.ask("n3.example.")).rcode != Rcode.NOERROR:
                        await asyncio.sleep(0.05)
        assert "certificate verification failed" in replies[0].error
    finally:
        server.stop()


async def test_a_second_upstream_answers_while_the_first_hangs(tmp_path: Path) -> None:
    installed = [name for name in SERVERS if shutil.which(name)]
    if len(installed) < 2:
        pytest.skip("two of " + ", ".join(SERVERS) + " are needed")
    servers = []
    for name in installed[:2]:
        (tmp_path / name).mkdir()
        servers.append(NameServer(SERVERS[name], tmp_path / name))
    try:
        forwarding = Forwarding(*servers, clock=monotonic)
        assert (await forwarding.ask("n1.example.")).rcode == Rcode.NOERROR
        servers[0].process.send_signal(signal.SIGSTOP)
        for number in range(2, 12):
            begun = time.monotonic()
            assert (await forwarding.ask(f"n{number}.example.")).rcode == Rcode.NOERROR
            assert time.monotonic() - begun < 1.0
        servers[0].process.send_signal(signal.SIGCONT)
    finally:
        for server in servers:
            server.stop()
