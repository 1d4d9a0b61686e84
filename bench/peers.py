"""The configuration of each server: one function for each server writes its files and returns its command line.

svcdns and CoreDNS watch the cluster, with the Corefile of kubeadm. NSD and Knot load zone files. Unbound and dnsmasq
have the addresses of the cluster as local data, and forward external names.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from bench.cluster import EXTERNAL_NAMES, EXTERNAL_ZONE, ZONE, Cluster, external_address, external_name, headless

TTL = 30

COREFILE = """\
.:{port} {{
    errors
    health 127.0.0.1:{health} {{
       lameduck 5s
    }}
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
       endpoint http://127.0.0.1:{api}
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus 127.0.0.1:{metrics}
    forward . {upstreams} {{
       {limit}
    }}
    cache 30 {{
       disable success cluster.local
       disable denial cluster.local
    }}
    loop
    reload
    loadbalance{more}
}}
"""

TLS_BLOCK = """\
tls://.:{port} {{
    tls {folder}/cert.pem {folder}/key.pem
    kubernetes cluster.local {{
       endpoint http://127.0.0.1:{api}
       ttl 30
    }}
}}
"""


@dataclass(frozen=True)
class ServerConfig:
    """The settings of a server under test: the cluster, and the ports of the server, its upstreams and its API
    server.
    """

    cluster: Cluster
    port: int
    upstream: int
    api: int = 0
    workers: int = 1
    http_ports: dict[str, int] = field(default_factory=dict)
    """Ports of health, ready and metrics."""
    more_upstreams: tuple[int, ...] = ()
    max_concurrent: bool = True
    """True if the Corefile has `max_concurrent`."""
    more_blocks: str = ""
    """The text that is put at the end of the Corefile."""
    plugins: str = ""
    """Lines that are added to the server block of the Corefile."""
    addresses: tuple[str, ...] = ("127.0.0.1",)
    """The addresses on which NSD listens. svcdns and CoreDNS listen on all addresses."""
    tls_port: int = 0
    """The port for DNS over TLS, or 0. svcdns, CoreDNS and NSD have it."""

    @property
    def upstreams(self) -> list[int]:
        """Returns the ports of all upstreams."""
        return [self.upstream, *self.more_upstreams]


def corefile(config: ServerConfig, folder: Path) -> Path:
    """Writes a Corefile like that of kubeadm, with the ports of `config`, and returns its path."""
    path = folder / "Corefile"
    more = f"\n    multisocket {config.workers}" if config.workers > 1 else ""
    upstreams = " ".join(f"127.0.0.1:{port}" for port in config.upstreams)
    more += "".join(f"\n    {line}" for line in config.plugins.splitlines())
    limit = "max_concurrent 1000" if config.max_concurrent else "# no limit"
    path.write_text(
        COREFILE.format(
            port=config.port, api=config.api, upstreams=upstreams, limit=limit, more=more, **config.http_ports
        )
        + config.more_blocks
        + (
            TLS_BLOCK.format(port=config.tls_port, api=config.api, folder=certificate(folder))
            if config.tls_port
            else ""
        )
    )
    return path


def certificate(folder: Path) -> Path:
    """Writes `cert.pem` and `key.pem` for a server on this machine into a folder, and returns the folder."""
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return folder


def svcdns(config: ServerConfig, folder: Path) -> list[str]:
    """Writes the Corefile of svcdns, and returns its command line."""
    return [sys.executable, "-I", "-m", "svcdns", "-conf", str(corefile(config, folder))]


def coredns(config: ServerConfig, folder: Path) -> list[str]:
    """Writes the Corefile of CoreDNS, and returns its command line. The environment variable COREDNS names the
    binary.
    """
    return [os.environ["COREDNS"], "-conf", str(corefile(config, folder))]


def nsd(config: ServerConfig, folder: Path) -> list[str]:
    """Writes the configuration of NSD with one server process and no rate limit, and returns its command line."""
    zones = "".join(
        f'zone:\n  name: "{zone}"\n  zonefile: "{path}"\n' for zone, path in write_zones(config.cluster, folder).items()
    )
    tls = ""
    if config.tls_port:
        certificate(folder)
        tls = (
            f"  ip-address: 127.0.0.1@{config.tls_port}\n  tls-port: {config.tls_port}\n"
            f'  tls-service-key: "{folder}/key.pem"\n  tls-service-pem: "{folder}/cert.pem"\n'
        )
    addresses = "".join(f"  ip-address: {address}@{config.port}\n" for address in config.addresses)
    text = f"""\
server:
{addresses}\
{tls}\
  server-count: 1
  tcp-count: 500
  username: ""
  zonesdir: "{folder}"
  database: ""
  zonelistfile: "{folder}/zone.list"
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
{zones}"""
    return ["nsd", "-d", "-c", write(folder / "nsd.conf", text)]


def knot(config: ServerConfig, folder: Path) -> list[str]:
    """Writes the configuration of Knot with one worker for UDP and one for TCP, and returns its command line."""
    zones = "".join(
        f'  - domain: "{zone}"\n    file: "{path}"\n' for zone, path in write_zones(config.cluster, folder).items()
    )
    text = f"""\
server:
  rundir: "{folder}"
  listen: 127.0.0.1@{config.port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  tcp-max-clients: 500
  tcp-io-timeout: 0
  tcp-idle-timeout: 60
database:
  storage: "{folder}"
template:
  - id: default
    storage: "{folder}"
    journal-content: none
    zonefile-load: whole
    zonefile-sync: -1
zone:
{zones}"""
    return ["knotd", "-c", write(folder / "knot.conf", text)]


def unbound(config: ServerConfig, folder: Path) -> list[str]:
    """Writes the configuration of Unbound with one thread, and returns its command line.

    The names of the cluster are a static local zone.
    """
    forwarded = "".join(f"  forward-addr: 127.0.0.1@{port}\n" for port in config.upstreams)
    lines = [
        f"  local-data: '{name}. {TTL} {family(address)} {address}'\n" for name, address in addresses(config.cluster)
    ]
    text = f"""\
server:
  interface: 127.0.0.1
  port: {config.port}
  num-threads: 1
  do-daemonize: no
  use-syslog: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  module-config: "iterator"
  do-not-query-localhost: no
  local-zone: "{ZONE}." static
{"".join(lines)}
remote-control:
  control-enable: no
forward-zone:
  name: "."
{forwarded}"""
    return ["unbound", "-d", "-c", write(folder / "unbound.conf", text)]


def dnsmasq(config: ServerConfig, folder: Path) -> list[str]:
    """Writes the configuration of dnsmasq with the names of the cluster in a hosts file, and returns its command
    line.
    """
    hosts = write(folder / "hosts", "".join(f"{address} {name}\n" for name, address in addresses(config.cluster)))
    text = f"""\
port={config.port}
listen-address=127.0.0.1
bind-interfaces
user=root
keep-in-foreground
pid-file={folder}/dnsmasq.pid
no-resolv
no-hosts
addn-hosts={hosts}
local=/{ZONE}/
local-ttl={TTL}
server=127.0.0.1#{config.upstream}
cache-size=10000
dns-forward-max=1000
"""
    return ["dnsmasq", f"--conf-file={write(folder / 'dnsmasq.conf', text)}"]


CONFIGURED: dict[str, Callable[[ServerConfig, Path], list[str]]] = {
    "svcdns": svcdns,
    "nsd": nsd,
    "knot": knot,
    "unbound": unbound,
    "dnsmasq": dnsmasq,
    "coredns": coredns,
}
"""All servers, in the order of the table's columns."""

WATCHERS = ("svcdns", "coredns")
"""Servers that watch an API server and report readiness over HTTP."""


def why_unavailable(name: str) -> str:
    """Returns the reason why a server cannot be measured on this machine, or an empty text if it can."""
    if name == "svcdns":
        return ""
    if name == "coredns":
        path = os.environ.get("COREDNS", "")
        return "" if path and shutil.which(path) else "the environment variable COREDNS does not name its binary"
    program = {"knot": "knotd"}.get(name, name)
    return "" if shutil.which(program) else f"no {program} in PATH"


# -- the cluster as data


def addresses(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Yields the name of each Service with each of its addresses."""
    for number in range(cluster.services):
        for address in cluster.addresses(number):
            yield cluster.fqdn(number), address


def family(address: str) -> str:
    """Returns the record type of an address: `A` or `AAAA`."""
    return "AAAA" if ":" in address else "A"


def write_zones(cluster: Cluster, folder: Path) -> dict[str, Path]:
    """Writes zone files for the cluster, its reverse zones and the external names. Returns their paths by zone."""
    zones: dict[str, list[str]] = defaultdict(list)
    for number in range(cluster.services):
        name = cluster.fqdn(number) + "."
        zones[ZONE] += [f"{name} {family(address)} {address}" for address in cluster.addresses(number)]
        targets = dict.fromkeys(cluster.addresses(number), name)
        if headless(number):
            targets = {address: f"{address.replace('.', '-')}.{name}" for address in cluster.pods(number)}
            zones[ZONE] += [f"{target} A {address}" for address, target in targets.items()]
        zones[ZONE] += [
            f"_http._tcp.{name} SRV 0 {max(1, 100 // len(targets))} 80 {target}"
            for target in dict.fromkeys(targets.values())
        ]
        for address, target in targets.items():
            reverse = ipaddress.ip_address(address).reverse_pointer
            zones["ip6.arpa" if ":" in address else "in-addr.arpa"].append(f"{reverse}. PTR {target}")
    zones[EXTERNAL_ZONE] = [
        f"{external_name(number)}. A {external_address(number)}" for number in range(EXTERNAL_NAMES)
    ]
    found = {}
    for zone, lines in zones.items():
        soa = f"{zone}. SOA ns.{zone}. hostmaster.{zone}. 1 7200 1800 86400 {TTL}"
        found[zone] = folder / f"{zone}.zone"
        found[zone].write_text(
            "\n".join([f"$TTL {TTL}", soa, f"{zone}. NS ns.{zone}.", f"ns.{zone}. A 127.0.0.1", *lines, ""])
        )
    return found


def write(path: Path, text: str) -> str:
    """Writes a file and returns its path."""
    path.write_text(text)
    return str(path)
