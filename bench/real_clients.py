"""Failures of real clients at a reload, an upgrade, a stop and a restart: `python -m bench.real_clients [EVENT...]`.

Programs look names up with the C libraries glibc and musl. Unbound and dnsdist forward queries over UDP, TCP and DNS
over TLS on persistent connections. Each kind has four clients, which make five lookups a second. Ten more clients make
one lookup a second. The program needs root, for a network namespace. The environment variable COREDNS names the binary
for `--peer coredns`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import dns.exception
import dns.message
import dns.query
import trustme

from bench.forwarders import FORWARDERS, TLS_NAME, TRANSPORTS, NameServer, second_name_server
from bench.lookups import SERVICE, SERVICE_ADDRESS, Client, Lookup, StubResolver, UdpClient, without
from bench.network_namespace import own_network, why_unavailable
from bench.processes import free_ports, until

EVENTS = ("reload", "upgrade", "unfinished-upgrade", "stop", "restart")
LAME_DUCK = 2.0
QUIET = 1.5
"""Seconds without an event before the first and after each, except after an unfinished upgrade."""
REFRESH = "refresh every second"
SECOND = "127.0.0.2"
LIBRARIES = {
    "glibc": ("glibc", ["127.0.0.1"]),
    "glibc, two name servers": ("glibc", ["127.0.0.1", SECOND]),
    "musl": ("musl", ["127.0.0.1"]),
    "musl, two name servers": ("musl", ["127.0.0.1", SECOND]),
}
"""Kinds of stub resolver: the C library and its name servers."""
KINDS = (*LIBRARIES, *(f"{name} over {transport}" for name in FORWARDERS for transport in TRANSPORTS), REFRESH)
COREFILE = """
.:53 {{
    bind 127.0.0.1
    errors
    health 127.0.0.1:8080 {{
        lameduck {lame_duck:.0f}s
    }}
    ready 127.0.0.1:8181
    {zone}
    loadbalance
}}
tls://.:853 {{
    bind 127.0.0.1
    errors
    tls {folder}/server.crt {folder}/server.key
    {zone}
}}
"""
CLUSTER = f"""
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  clusterIP: {SERVICE_ADDRESS}
  ports: [{{name: http, port: 80}}]
"""
ZONE = f"""$ORIGIN cluster.local.
@ 5 IN SOA ns.dns hostmaster 1 7200 1800 86400 5
@ 5 IN NS ns.dns
web.default.svc 5 IN A {SERVICE_ADDRESS}
*.default.pod 5 IN A 10.0.0.1
"""
KUBERNETES = "kubernetes cluster.local {{\n manifests {folder}/cluster.yaml\n pods insecure\n ttl {ttl}\n }}"
FILE = "file {folder}/zone cluster.local"
"""The zone of a server that reads no manifests."""


@dataclass(frozen=True)
class Run:
    """The lookups of each kind of client, and the time when each event began (`time.monotonic`)."""

    lookups: dict[str, list[Lookup]]
    began: dict[str, float]
    gone: float = float("inf")
    """When the server had exited, after a stop."""

    def during(self, kind: str, event: str) -> list[Lookup]:
        """Returns the lookups that began between this event and the next one."""
        first = self.began[event]
        last = min((at for at in self.began.values() if at > first), default=float("inf"))
        return [lookup for lookup in self.lookups[kind] if first <= lookup.began < last]

    def failed(self, kind: str, event: str) -> list[Lookup]:
        """Returns the failed lookups that began between this event and the next one."""
        return [lookup for lookup in self.during(kind, event) if lookup.error]


@dataclass
class Subject:
    """The name server under test, with methods for the events: starts, reloads, upgrades and stops."""

    command: Sequence[str]
    zone: str
    folder: Path
    running: NameServer = field(init=False)
    _reloads: int = 0

    def __post_init__(self) -> None:
        """Writes the files and starts the server."""
        (self.folder / "cluster.yaml").write_text(CLUSTER)
        (self.folder / "zone").write_text(ZONE)
        self._write()
        self.start()

    def _write(self) -> None:
        zone = self.zone.format(folder=self.folder, ttl=5 + self._reloads)
        (self.folder / "Corefile").write_text(COREFILE.format(zone=zone, folder=self.folder, lame_duck=LAME_DUCK))

    def start(self) -> None:
        """Starts the server, and waits for its first answer."""
        self.running = NameServer([*self.command, "-conf", str(self.folder / "Corefile")], self.folder)
        until_answers("127.0.0.1", 53, self.running)

    def reload(self) -> None:
        """Changes the Corefile, and waits for the end of the reload."""
        self._reloads += 1
        self._write()
        os.kill(self.running.process.pid, signal.SIGUSR1)
        self.running.until_logged("Reloading complete", count=self._reloads)

    def upgrade(self) -> None:
        """Replaces the program in place, and waits for the end."""
        os.kill(self.running.process.pid, signal.SIGUSR2)
        self.running.until_logged("the upgrade is complete", 60.0)

    def unfinished_upgrade(self) -> None:
        """Begins to replace the program, and waits until the replacement of the workers begins."""
        os.kill(self.running.process.pid, signal.SIGUSR2)
        self.running.until_logged("a process is replaced process=control")

    def stop(self) -> None:
        """Stops the server, and waits for its exit."""
        os.kill(self.running.process.pid, signal.SIGTERM)
        self.running.process.wait(60)

    def restart(self) -> None:
        """Stops the server, and starts it again."""
        self.stop()
        self.start()


def until_answers(address: str, port: int, server: NameServer) -> None:
    """Waits until a name server answers for the Service that the clients look up (`SERVICE` in `bench.lookups`).

    Raises RuntimeError if the name server ends, and TimeoutError after 30 seconds.
    """
    query = dns.message.make_query(f"{SERVICE}.svc.cluster.local.", "A")

    def answers() -> bool:
        if server.process.poll() is not None:
            raise RuntimeError(server.log)
        try:
            return bool(dns.query.udp(query, address, 0.5, port).answer)
        except (OSError, dns.exception.DNSException):
            return False

    until(f"an answer of {address} port {port}", answers, 30.0, 0.01)


@contextmanager
def clients(folder: Path, kinds: Sequence[str], authority: Path) -> Iterator[dict[str, Client]]:
    """Context manager that starts the clients, with the forwarders and the second name server that they need."""
    with ExitStack() as stack:

        def serve(name: str, command: list[str], address: str, port: int) -> None:
            server = NameServer(command, folder / name)
            stack.callback(server.kill)
            until_answers(address, port, server)

        found: dict[str, Client] = {}
        (folder / "second").mkdir()
        serve("second", second_name_server(folder / "second", SECOND), SECOND, 53)
        ports = {}
        for kind in kinds:
            name, _, transport = kind.partition(" over ")
            if transport:
                (folder / kind).mkdir()
                (ports[kind],) = free_ports(1)
                command = FORWARDERS[name](folder / kind, ports[kind], transport, authority)
                serve(kind, command, "127.0.0.1", ports[kind])
        for kind in kinds:
            if kind in LIBRARIES:
                found[kind] = StubResolver(LIBRARIES[kind][0], folder / f"stub{len(found)}", LIBRARIES[kind][1])
            elif kind == REFRESH:
                found[kind] = UdpClient(53, clients=10, gap=1.0, attempts=2)
            else:
                found[kind] = UdpClient(ports[kind])
            stack.enter_context(closing(found[kind]))
        yield found


def run(command: Sequence[str], zone: str, kinds: Sequence[str], events: Sequence[str]) -> Run:
    """Starts the server with its clients, runs the events, and returns the lookups.

    Raises RuntimeError if a program ends early, and TimeoutError if a program is not ready or does not end in time.
    """
    with TemporaryDirectory() as name, own_network():
        folder = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.crt")
        certificate = authority.issue_cert(TLS_NAME)
        certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
        certificate.private_key_pem.write_to_path(folder / "server.key")
        subject = Subject(command, zone, folder)
        began, gone = {"none": time.monotonic()}, float("inf")
        try:
            with clients(folder, kinds, folder / "ca.crt") as watched:
                began["none"] = time.monotonic() + 0.5
                time.sleep(QUIET + 0.5)
                for number, event in enumerate(events):
                    began[event if event not in began else f"{event} {number + 1}"] = time.monotonic()
                    getattr(subject, event.replace("-", "_"))()
                    gone = time.monotonic() if event == "stop" else gone
                    time.sleep(0.0 if event == "unfinished-upgrade" else QUIET)
                for client in watched.values():
                    client.finish()
                return Run({kind: client.lookups() for kind, client in watched.items()}, began, gone)
        finally:
            subject.running.kill()


def missing(kind: str) -> str:
    """Returns the program or library that a kind of client needs and this machine lacks, or an empty text."""
    if kind in LIBRARIES:
        return without(LIBRARIES[kind][0])
    program = {"Unbound": "unbound", "dnsdist": "dnsdist"}.get(kind.partition(" over ")[0], "")
    return f"no {program} in PATH" if program and not shutil.which(program) else ""


def table(found: Run) -> str:
    """Returns a Markdown table with lookups, failures, and the slowest lookup in ms, for each client and event."""
    lines = ["| client | " + " | ".join(found.began) + " |", "| --- " * (len(found.began) + 1) + "|"]
    for kind in found.lookups:
        cells = []
        for event in found.began:
            lookups = found.during(kind, event)
            slowest = max((lookup.seconds for lookup in lookups), default=0.0)
            cells.append(f"{len(lookups)}, {len(found.failed(kind, event))}, {slowest * 1000:.0f}")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Runs the chosen events under load, and prints the table of lookups. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "events", nargs="*", default=["reload", "upgrade", "stop"], metavar="EVENT", help=", ".join(EVENTS)
    )
    parser.add_argument("--peer", choices=("svcdns", "coredns"), default="svcdns")
    parser.add_argument("--file", action="store_true", help="serve a zone file, as CoreDNS does here, no manifests")
    parser.add_argument("--only", default="", metavar="TEXT", help="leave out clients without this text in their name")
    parser.add_argument("--failures", action="store_true", help="list every failure")
    options = parser.parse_args()
    lacking = why_unavailable()
    if lacking or (options.peer == "coredns" and "COREDNS" not in os.environ):
        print(f"bench: {lacking or 'COREDNS does not name a binary'}", file=sys.stderr)
        return 2
    kinds = [kind for kind in KINDS if options.only in kind]
    for kind in kinds:
        if missing(kind):
            print(f"bench: {kind} is left out: {missing(kind)}", file=sys.stderr)
    command = [sys.executable, "-I", "-m", "svcdns"] if options.peer == "svcdns" else [os.environ["COREDNS"]]
    zone = FILE if options.file or options.peer == "coredns" else KUBERNETES
    found = run(command, zone, [kind for kind in kinds if not missing(kind)], options.events)
    print(table(found))
    for kind in found.lookups if options.failures else ():
        for event, began in found.began.items():
            for lookup in found.failed(kind, event):
                after = f"{lookup.began - began:.2f} s after {event}"
                print(f"{kind}: {after}, {lookup.seconds:.3f} s: {lookup.error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
