"""IXFR between svcdns and other name servers, with many random changes of a zone. Skipped without the server."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import dns.xfr
import dns.zone
import pytest

from tests.support.name_servers import SERVERS, configure, coredns
from tests.support.server import Server, free_port, until

pytestmark = pytest.mark.integration

CHANGES = 12
"""The number of versions after the first one."""
NAMES = 300


@pytest.fixture(params=SERVERS)
def command(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Returns the function that configures one of the servers."""
    return configure(request.param)


class ChangingZone:
    """A zone file whose records change at random."""

    def __init__(self, path: Path) -> None:
        """Writes the first version."""
        self._path, self._random, self.serial = path, Random(7), 0
        self._records: dict[str, int] = {self._record(): 60 for _ in range(NAMES)}
        self.change()

    def _record(self) -> str:
        name, number = self._random.randrange(NAMES), self._random.randrange(4)
        texts = (
            f"host{name} {{}} IN A 10.0.0.{number}",
            f"Host{name}.sub {{}} IN AAAA 2001:db8::{number}",
            f"host{name} {{}} IN TXT {'t' * 80}{number}",
            f"mail{name} {{}} IN MX {number} Host{name}.one.test.",
            f"alias{name} {{}} IN CNAME host{name}",
            f"_s._tcp.host{name} {{}} IN SRV 1 2 {number} host{name}.sub",
        )
        return texts[4] if number == 0 and name % 9 == 0 else self._random.choice(texts[:4] + texts[5:])

    def change(self) -> None:
        """Writes a new version: records come, go and change their TTL."""
        random = self._random
        for text in random.sample(sorted(self._records), random.randrange(1, 12)):
            if random.random() < 0.7:
                del self._records[text]
            else:  # with all records of the RRset
                owner, _, rest = text.partition(" {} ")
                ttl, kind = random.choice((5, 60, 600)), rest.split()[1]
                for other in self._records:
                    if other.startswith(f"{owner} {{}} IN {kind} "):
                        self._records[other] = ttl
        for _ in range(random.randrange(1, 12)):
            text = self._record()
            owner, _, rest = text.partition(" {} ")
            same = [ttl for other, ttl in self._records.items() if other.startswith(f"{owner} {{}} {rest[:5]}")]
            self._records[text] = same[0] if same else 60
        self.serial = (self.serial + random.choice((1, 1, 7, 1 << 30))) % (1 << 32) or 1
        lines = [
            "$TTL 60",
            f"@ 60 IN SOA ns root {self.serial} 3600 3600 36000 5",
            "@ 60 IN NS ns",
            "ns 60 IN A 10.0.0.1",
        ]
        lines += [text.format(ttl) for text, ttl in self._records.items()]
        beside = self._path.with_name("new")
        beside.write_text("\n".join(lines) + "\n")
        beside.replace(self._path)
        before = self._path.stat().st_mtime - 5 + self.serial % 1000 / 1000  # a file that is not being written
        os.utime(self._path, (before, before))


class Pair(Server):
    """svcdns, and another server. One of them is the primary server of a zone that changes."""

    def __init__(self, folder: Path, command: Callable[..., list[str]], corefile: str, *, is_primary: bool) -> None:
        """Starts both servers. With `is_primary`, the other one is the primary server."""
        other = folder / "other"
        other.mkdir()
        self.other_port = free_port()
        self.zone = ChangingZone((other if is_primary else folder) / "zone")
        super().__init__(folder, corefile.replace("OTHER", str(self.other_port)))
        line = command(other, self.other_port, self.ports["port"], is_primary=is_primary)
        with (other / "log").open("wb") as log:
            self.other = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)

    def __exit__(self, *error: object) -> None:
        """Ends both servers."""
        self.other.terminate()
        try:
            self.other.wait(30)
        finally:
            super().__exit__(*error)

    def until_equal(self) -> None:
        """Waits until both servers have the present version, and compares their records."""
        ports = self.ports["port"], self.other_port
        for port in ports:
            until(f"serial {self.zone.serial} at port {port}", partial(self._is_current, port), 60)
        mine, others = map(records, ports)
        assert mine == others

    def _is_current(self, port: int) -> bool:
        return serial(port) == self.zone.serial


def serial(port: int) -> int | None:
    """Returns the serial of the zone at a server; None if it has none."""
    try:
        reply = dns.query.udp(dns.message.make_query("one.test.", "SOA"), "127.0.0.1", 1, port)
    except (OSError, dns.exception.DNSException):
        return None
    return reply.answer[0][0].serial if reply.answer else None


def records(port: int) -> list[str]:
    """Returns the records of the zone at a server (AXFR), sorted."""
    zone = dns.zone.Zone("one.test.")
    dns.query.inbound_xfr("127.0.0.1", zone, port=port)
    return sorted(
        f"{name} {ttl} {dns.rdatatype.to_text(rdata.rdtype)} {rdata.to_text()}".lower()
        for name, ttl, rdata in zone.iterate_rdatas()
    )


@pytest.mark.parametrize("ixfr", ["tcp", "udp"])
def test_many_changes_at_another_primary_server(tmp_path: Path, command: Callable[..., list[str]], ixfr: str) -> None:
    """svcdns ends each time with the same zone. Each version arrives as differences, but from CoreDNS."""
    corefile = (
        "one.test:{port} {\n bind 127.0.0.1\n transfer {\n  to *\n }\n"
        f" secondary {{\n  transfer from 127.0.0.1:OTHER\n  ixfr {ixfr}\n }}\n}}\n"
    )
    with Pair(tmp_path, command, corefile, is_primary=True) as pair:
        pair.until_equal()
        for _ in range(CHANGES):
            pair.zone.change()
            if command is not coredns:
                os.kill(pair.other.pid, signal.SIGHUP)
            pair.until_equal()
        expected = 0 if command is coredns else CHANGES
        assert pair.log.count("transferred differences zone=one.test.") == expected, pair.log


def test_many_changes_at_svcdns(tmp_path: Path, command: Callable[..., list[str]]) -> None:
    """The other server ends each time with the same zone. All but CoreDNS get each version as differences."""
    corefile = (
        "one.test:{port} {\n bind 127.0.0.1\n file {dir}/zone {\n  reload 100ms\n }\n"
        " transfer {\n  to * 127.0.0.1:OTHER\n }\n}\n"
    )
    with Pair(tmp_path, command, corefile, is_primary=False) as pair:
        pair.until_equal()
        for _ in range(CHANGES):
            pair.zone.change()
            pair.until_equal()
        assert command is coredns or pair.log.count("transfer=differences zone=one.test.") >= CHANGES, pair.log
