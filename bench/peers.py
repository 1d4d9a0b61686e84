"""How each server is configured with the names of a cluster: one function a server, which writes its files and gives its command line.

svcdns and CoreDNS watch the cluster with the Corefile of kubeadm, word for word but for ports, the API server and the upstream. NSD
and Knot have the same names as zone files, outside names included; Unbound and dnsmasq have the addresses as local data, and forward
outside names.
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

from bench.cluster import OUTSIDE, OUTSIDE_ZONE, ZONE, Cluster, headless, outside, outside_address

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


@dataclass(frozen=True)
class Site:
    """What a server is to be configured with."""

    cluster: Cluster
    port: int
    upstream: int
    api: int = 0
    workers: int = 1
    pages: dict[str, int] = field(default_factory=dict)
    """Ports of health, ready and metrics."""
    more_upstreams: tuple[int, ...] = ()
    limited: bool = True
    """Whether `max_concurrent` stands in the Corefile."""

    @property
    def upstreams(self) -> list[int]:
        """Ports of all upstreams."""
        return [self.upstream, *self.more_upstreams]


def corefile(site: Site, folder: Path) -> Path:
    """Writes kubeadm's Corefile."""
    path = folder / "Corefile"
    more = f"\n    multisocket {site.workers}" if site.workers > 1 else ""
    upstreams = " ".join(f"127.0.0.1:{port}" for port in site.upstreams)
    limit = "max_concurrent 1000" if site.limited else "# no limit"
    path.write_text(COREFILE.format(port=site.port, api=site.api, upstreams=upstreams, limit=limit, more=more, **site.pages))
    return path


def svcdns(site: Site, folder: Path) -> list[str]:
    """This project."""
    return [sys.executable, "-m", "svcdns", "-conf", str(corefile(site, folder))]


def coredns(site: Site, folder: Path) -> list[str]:
    """The binary that COREDNS names."""
    return [os.environ["COREDNS"], "-conf", str(corefile(site, folder))]


def nsd(site: Site, folder: Path) -> list[str]:
    """One server process, no rate limit."""
    zones = "".join(f'zone:\n  name: "{zone}"\n  zonefile: "{path}"\n' for zone, path in write_zones(site.cluster, folder).items())
    text = f"""\
server:
  ip-address: 127.0.0.1@{site.port}
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


def knot(site: Site, folder: Path) -> list[str]:
    """One worker for each transport."""
    zones = "".join(f'  - domain: "{zone}"\n    file: "{path}"\n' for zone, path in write_zones(site.cluster, folder).items())
    text = f"""\
server:
  rundir: "{folder}"
  listen: 127.0.0.1@{site.port}
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


def unbound(site: Site, folder: Path) -> list[str]:
    """One thread; the cluster as a static local zone."""
    forwarded = "".join(f"  forward-addr: 127.0.0.1@{port}\n" for port in site.upstreams)
    lines = [f"  local-data: '{name}. {TTL} {family(address)} {address}'\n" for name, address in addresses(site.cluster)]
    text = f"""\
server:
  interface: 127.0.0.1
  port: {site.port}
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


def dnsmasq(site: Site, folder: Path) -> list[str]:
    """The cluster as a hosts file."""
    hosts = write(folder / "hosts", "".join(f"{address} {name}\n" for name, address in addresses(site.cluster)))
    text = f"""\
port={site.port}
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
server=127.0.0.1#{site.upstream}
cache-size=10000
dns-forward-max=1000
"""
    return ["dnsmasq", f"--conf-file={write(folder / 'dnsmasq.conf', text)}"]


CONFIGURED: dict[str, Callable[[Site, Path], list[str]]] = {
    "svcdns": svcdns,
    "nsd": nsd,
    "knot": knot,
    "unbound": unbound,
    "dnsmasq": dnsmasq,
    "coredns": coredns,
}
"""Every server, in the order of the table's columns."""

WATCHERS = ("svcdns", "coredns")
"""Servers that watch an API server, and have a page that says when they are ready."""


def missing(name: str) -> str:
    """Why a server cannot be measured here; empty if it can."""
    if name == "svcdns":
        return ""
    if name == "coredns":
        path = os.environ.get("COREDNS", "")
        return "" if path and shutil.which(path) else "the environment variable COREDNS does not name its binary"
    program = {"knot": "knotd"}.get(name, name)
    return "" if shutil.which(program) else f"no {program} in PATH"


# -- the cluster as data


def addresses(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Name and address, for each address of each Service."""
    for number in range(cluster.services):
        for address in cluster.addresses(number):
            yield cluster.fqdn(number), address


def family(address: str) -> str:
    """The type of an address's record."""
    return "AAAA" if ":" in address else "A"


def write_zones(cluster: Cluster, folder: Path) -> dict[str, Path]:
    """Writes zone files: the cluster with its reverse zones, and the outside names."""
    zones: dict[str, list[str]] = defaultdict(list)
    for number in range(cluster.services):
        name = cluster.fqdn(number) + "."
        zones[ZONE] += [f"{name} {family(address)} {address}" for address in cluster.addresses(number)]
        targets = dict.fromkeys(cluster.addresses(number), name)
        if headless(number):
            targets = {address: f"{address.replace('.', '-')}.{name}" for address in cluster.pods(number)}
            zones[ZONE] += [f"{target} A {address}" for address, target in targets.items()]
        zones[ZONE] += [f"_http._tcp.{name} SRV 0 {max(1, 100 // len(targets))} 80 {target}" for target in dict.fromkeys(targets.values())]
        for address, target in targets.items():
            reverse = ipaddress.ip_address(address).reverse_pointer
            zones["ip6.arpa" if ":" in address else "in-addr.arpa"].append(f"{reverse}. PTR {target}")
    zones[OUTSIDE_ZONE] = [f"{outside(number)}. A {outside_address(number)}" for number in range(OUTSIDE)]
    found = {}
    for zone, lines in zones.items():
        soa = f"{zone}. SOA ns.{zone}. hostmaster.{zone}. 1 7200 1800 86400 {TTL}"
        found[zone] = folder / f"{zone}.zone"
        found[zone].write_text("\n".join([f"$TTL {TTL}", soa, f"{zone}. NS ns.{zone}.", f"ns.{zone}. A 127.0.0.1", *lines, ""]))
    return found


def write(path: Path, text: str) -> str:
    """Writes a file; its path."""
    path.write_text(text)
    return str(path)
