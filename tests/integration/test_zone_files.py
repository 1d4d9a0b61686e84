"""NSD and svcdns read the same octets for the records of every type that NSD knows."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
import pytest

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.zone_text import read
from tests.support import zone_records
from tests.support.server import free_port

pytestmark = pytest.mark.integration
ORIGIN = names.from_text("mill.test.")


def known_to_nsd(folder: Path) -> str:
    """Returns the test zone without the records that NSD refuses to read."""
    (folder / "all").write_text(zone_records.zone())
    found = subprocess.run(
        ["nsd-checkzone", "mill.test", str(folder / "all")], capture_output=True, text=True, check=False
    )
    refused = {int(number) for number in re.findall(r"error: \S+:(\d+):", found.stderr)}
    lines = zone_records.zone().splitlines()
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in refused) + "\n"


@pytest.fixture
def zone(tmp_path: Path) -> str:
    """Writes the zone that both NSD and svcdns read. Skips the test if NSD is not installed."""
    if not shutil.which("nsd-checkzone"):
        pytest.skip("no nsd in PATH")
    return known_to_nsd(tmp_path)


@pytest.fixture
def port(tmp_path: Path, zone: str) -> Iterator[int]:
    """Serves the zone with NSD, and returns the port."""
    number = free_port()
    (tmp_path / "zone").write_text(zone)
    (tmp_path / "conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{number}\n  server-count: 1\n  username: ""\n  zonesdir: "{tmp_path}"\n  database: ""\n'
        f'  zonelistfile: "{tmp_path}/zone.list"\n  xfrdfile: "{tmp_path}/xfrd"\n  xfrdir: "{tmp_path}"\n  pidfile: "{tmp_path}/pid"\n'
        f'remote-control:\n  control-enable: no\nzone:\n  name: "mill.test"\n  zonefile: "{tmp_path}/zone"\n'
    )
    with subprocess.Popen(["nsd", "-d", "-c", str(tmp_path / "conf")], stderr=subprocess.DEVNULL) as server:
        try:
            _wait(number)
            yield number
        finally:
            server.terminate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            dns.query.tcp(dns.message.make_query("mill.test.", "SOA"), "127.0.0.1", port=port, timeout=1)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def test_the_same_octets_as_nsd(port: int, zone: str) -> None:
    """NSD and svcdns read the same RDATA for each record of a zone file."""
    compared = 0
    for record in read(zone, ORIGIN, "zone"):
        if record.rtype == Type.NSEC3:
            continue  # NSD gives them as proofs alone
        query = dns.message.make_query(names.to_text(record.owner), dns.rdatatype.RdataType.make(record.rtype))
        reply = dns.query.tcp(query, "127.0.0.1", port=port, timeout=5)
        found = [
            rdata.to_wire()
            for rrset in (*reply.answer, *reply.authority)
            for rdata in rrset
            if rrset.rdtype == record.rtype and rrset.name.to_wire() == record.owner
        ]
        assert record.rdata in found, names.to_text(record.owner)
        compared += 1
    assert compared > 80
