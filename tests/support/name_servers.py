"""Configures other name servers, as the primary or the secondary server of the zone `one.test.`.

Each function writes a configuration into a folder, and returns the command line. The zone file of a primary server is
the file `zone` in the folder. The server reads it again after SIGHUP. `other` is the port of svcdns on 127.0.0.1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def nsd(folder: Path, port: int, other: int, *, is_primary: bool, request: str = "") -> list[str]:
    """Configures NSD. `request` is the kind of its requests: `AXFR`, `UDP`, or empty for IXFR over TCP."""
    mine = (
        f'zonefile: "{folder}/zone"\n  notify: 127.0.0.1@{other} NOKEY\n'
        "  store-ixfr: yes\n  create-ixfr: yes\n  ixfr-number: 50\n"
    )
    theirs = f'request-xfr: {request} 127.0.0.1@{other} NOKEY\n  zonefile: "{folder}/transferred"\n'
    (folder / "nsd.conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: ""\n  zonesdir: "{folder}"\n'
        f'  database: ""\n  zonelistfile: "{folder}/zone.list"\n  xfrdfile: "{folder}/xfrd"\n  xfrdir: "{folder}"\n'
        f'  pidfile: "{folder}/pid"\nremote-control:\n  control-enable: no\n'
        f'zone:\n  name: "one.test"\n  provide-xfr: 127.0.0.1 NOKEY\n  allow-notify: 127.0.0.1 NOKEY\n'
        f"  {mine if is_primary else theirs}"
    )
    return ["nsd", "-d", "-c", str(folder / "nsd.conf")]


def nsd_over_udp(folder: Path, port: int, other: int, *, is_primary: bool) -> list[str]:
    """Configures NSD to send its first request over UDP."""
    return nsd(folder, port, other, is_primary=is_primary, request="UDP")


def knot(folder: Path, port: int, other: int, *, is_primary: bool) -> list[str]:
    """Configures Knot."""
    role = "notify: other\n" if is_primary else "master: other\n"
    file = f'    file: "{folder}/zone"\n    zonefile-load: difference\n' if is_primary else "    zonefile-load: none\n"
    (folder / "knot.conf").write_text(
        f'server:\n  rundir: "{folder}"\n  listen: 127.0.0.1@{port}\ndatabase:\n  storage: "{folder}"\n'
        f"remote:\n  - id: other\n    address: 127.0.0.1@{other}\n"
        "acl:\n  - id: all\n    address: 127.0.0.1\n    action: [transfer, notify]\n"
        f'zone:\n  - domain: one.test\n    storage: "{folder}"\n    zonefile-sync: -1\n    journal-content: changes\n'
        f"{file}    acl: all\n    {role}"
    )
    return ["knotd", "-c", str(folder / "knot.conf")]


def bind(folder: Path, port: int, other: int, *, is_primary: bool) -> list[str]:
    """Configures BIND."""
    mine = f'type primary; file "zone"; ixfr-from-differences yes; notify explicit; also-notify {{ 127.0.0.1 port {other}; }};'
    theirs = f'type secondary; file "transferred"; primaries {{ 127.0.0.1 port {other}; }}; notify no;'
    (folder / "named.conf").write_text(
        f'options {{ directory "{folder}"; pid-file "{folder}/pid"; listen-on port {port} {{ 127.0.0.1; }};\n'
        " listen-on-v6 { none; }; recursion no; allow-transfer { any; }; allow-notify { any; }; notify-delay 0;\n"
        ' session-keyfile "session"; managed-keys-directory "."; dnssec-validation no; };\n'
        "controls { };\n"
        f'zone "one.test" {{ {mine if is_primary else theirs} }};\n'
    )
    return ["named", "-g", "-c", str(folder / "named.conf"), "-p", str(port)]


def coredns(folder: Path, port: int, other: int, *, is_primary: bool) -> list[str]:
    """Configures CoreDNS, the program that the environment variable COREDNS names."""
    mine = f"file {folder}/zone {{\n  reload 100ms\n }}\n transfer {{\n  to * 127.0.0.1:{other}\n }}"
    theirs = f"secondary {{\n  transfer from 127.0.0.1:{other}\n }}\n transfer {{\n  to *\n }}"
    corefile = f"one.test:{port} {{\n bind 127.0.0.1\n {mine if is_primary else theirs}\n}}\n"
    (folder / "Corefile").write_text(corefile)
    return [os.environ["COREDNS"], "-conf", str(folder / "Corefile")]


SERVERS: dict[str, Callable[..., list[str]]] = {
    "nsd": nsd,
    "nsd over UDP": nsd_over_udp,
    "knotd": knot,
    "named": bind,
    "coredns": coredns,
}


def configure(name: str) -> Callable[..., list[str]]:
    """Returns the function that configures a server of SERVERS. Skips the test if the program is not installed."""
    program = os.environ.get("COREDNS", "") if name == "coredns" else name.partition(" ")[0]
    if shutil.which(program) is None:
        pytest.skip(f"{name} is not installed")
    return SERVERS[name]
