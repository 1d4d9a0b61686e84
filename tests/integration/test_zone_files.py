"""NSD and svcdns read the same records from zone files, and give the same answers from a signed zone."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.zone_text import read
from tests.support import zone_records
from tests.support.server import TIMEOUT, free_port
from tests.support.zone_answers import RECORDED, Server, recording

pytestmark = pytest.mark.integration
ZONE_NS = re.compile(r"auth signed\.test\. \d+ IN (RRSIG )?NS ")
ORIGIN = names.from_text("mill.test.")


def known_to_nsd(folder: Path) -> str:
    """Returns the zone without the records that NSD cannot read: types for which NSD has no text form, and times in
    seconds.
    """
    (folder / "all").write_text(zone_records.zone())
    found = subprocess.run(
        ["nsd-checkzone", "mill.test", str(folder / "all")], capture_output=True, text=True, check=False
    )
    refused = {int(number) for number in re.findall(r"error: \S+:(\d+):", found.stderr)}
    lines = zone_records.zone().splitlines()
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in refused) + "\n"


@pytest.fixture
def zone(tmp_path: Path) -> str:
    """Writes the zone that NSD and svcdns read. Skips the test if NSD is not installed."""
    if not shutil.which("nsd-checkzone"):
        pytest.skip("no nsd in PATH")
    return known_to_nsd(tmp_path)


@contextmanager
def nsd(folder: Path, origin: str, text: str) -> Iterator[int]:
    """Runs NSD with one zone, and yields its port."""
    number = free_port()
    (folder / "zone").write_text(text)
    (folder / "conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{number}\n  server-count: 1\n  username: ""\n  zonesdir: "{folder}"\n  database: ""\n'
        f'  zonelistfile: "{folder}/zone.list"\n  xfrdfile: "{folder}/xfrd"\n  xfrdir: "{folder}"\n  pidfile: "{folder}/pid"\n'
        f'  minimal-responses: no\nremote-control:\n  control-enable: no\nzone:\n  name: "{origin}"\n  zonefile: "{folder}/zone"\n'
    )
    with subprocess.Popen(["nsd", "-d", "-c", str(folder / "conf")], stderr=subprocess.DEVNULL) as server:
        try:
            _wait(number, origin)
            yield number
        finally:
            server.terminate()


@pytest.fixture
def port(tmp_path: Path, zone: str) -> Iterator[int]:
    with nsd(tmp_path, "mill.test", zone) as number:
        yield number


def _wait(port: int, origin: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            dns.query.tcp(dns.message.make_query(origin, "SOA"), "127.0.0.1", port=port, timeout=1)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def test_the_same_octets_as_nsd(port: int, zone: str) -> None:
    compared = 0
    for record in read(zone, ORIGIN, "zone"):
        if record.rtype == Type.NSEC3:
            continue  # NSD gives them as proofs alone
        query = dns.message.make_query(names.to_text(record.owner), dns.rdatatype.RdataType.make(record.rtype))
        reply = dns.query.tcp(query, "127.0.0.1", port=port, timeout=TIMEOUT)
        found = [
            rdata.to_wire()
            for rrset in (*reply.answer, *reply.authority)
            for rdata in rrset
            if rrset.rdtype == record.rtype and rrset.name.to_wire() == record.owner
        ]
        assert record.rdata in found, names.to_text(record.owner)
        compared += 1
    assert compared > 80


def test_the_same_answers_as_nsd_from_a_signed_zone(tmp_path: Path) -> None:
    """Rcode, AA bit, answer and authority section are compared, with and without DO. The NS records of the zone are
    optional.
    """
    if not shutil.which("nsd"):
        pytest.skip("no nsd in PATH")
    server = Server()
    lines = [line for line in recording() if line.name.endswith("signed.test.")]
    with nsd(tmp_path, "signed.test", (RECORDED / "signed.test.zone").read_text()) as port:
        for line in lines:
            query = dns.message.make_query(line.name, line.rtype, want_dnssec=line.dnssec)
            reply = dns.query.tcp(query, "127.0.0.1", port=port, timeout=TIMEOUT)
            head = dns.rcode.to_text(reply.rcode()) + " AA" * bool(reply.flags & dns.flags.AA)
            theirs = {head} | {
                f"{section}{rrset.name} {rrset.ttl} IN {dns.rdatatype.to_text(rrset.rdtype)} {rdata}"
                for section, found in (("", reply.answer), ("auth ", reply.authority))
                for rrset in found
                for rdata in rrset
            }
            ours = {found for found in server.ask(line) if not found.startswith("add ")}
            assert not {found for found in ours ^ theirs if not ZONE_NS.match(found)}, str(line)
    assert len(lines) > 100
