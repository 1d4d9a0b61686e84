"""Zones that *sign* signs and *file* serves, checked by BIND's tools, Unbound, dnspython and CoreDNS.

Tests that need a program are skipped if it is not installed. CoreDNS is found by SVCDNS_TEST_COREDNS, or by its name.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import dns.dnssec
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record_text import line
from svcdns.wire.zone_text import read
from tests.support.server import TIMEOUT, Server, free_port, http, until

pytestmark = pytest.mark.integration

KEYS = Path(__file__).parents[1] / "dnssec" / "keys"
KEY = "Kexample.org.+013+41819"
COREDNS = os.environ.get("SVCDNS_TEST_COREDNS") or shutil.which("coredns") or ""
ZONE = """\
$TTL 300
@ 3600 IN SOA ns root 7 7200 3600 1209600 60
@        300 NS ns
@        NS  ns2.example.net.
@        MX  10 mail
@        A   192.0.2.80
@        CAA 0 issue "ca.example.net"
ns       A   192.0.2.1
ns       AAAA 2001:db8::1
mail     A   192.0.2.2
www      A   192.0.2.3
www      A   192.0.2.4
www      AAAA 2001:db8::3
www      TXT "a b" "c;d"
alias    CNAME www
chain    CNAME alias
aw       CNAME any.wild
dangling CNAME nothing
*.wild   A   192.0.2.5
*.wild   TXT "wild"
*.wc     CNAME www
a.b.c    TXT "below empty non-terminals"
sub      NS  ns.sub
ns.sub   A   192.0.2.6
sub      NS  ns2.example.net.
signed   NS  ns.signed
signed   DS  12345 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
ns.signed A  192.0.2.7
_s._tcp  SRV 0 0 80 www
Upper    A   192.0.2.9
"""
COREFILE = """\
example.org:{port} {
    bind 127.0.0.1
    file {dir}/out/db.example.org.signed {
        reload 1s
    }
    sign {dir}/zone {
        key file {dir}/keys/KEY
        directory {dir}/out
    }
    prometheus 127.0.0.1:{metrics}
    errors
}
""".replace("KEY", KEY)
QUERIES = [
    ("@", "SOA"), ("@", "NS"), ("@", "MX"), ("@", "DNSKEY"), ("@", "CDS"), ("@", "CDNSKEY"), ("@", "NSEC"),
    ("@", "TXT"), ("@", "DS"), ("www", "A"), ("www", "AAAA"), ("www", "TXT"), ("www", "MX"), ("WWW", "A"), ("upper", "A"),
    ("alias", "A"), ("chain", "AAAA"), ("chain", "MX"), ("alias", "CNAME"), ("aw", "A"), ("aw", "MX"), ("dangling", "A"),
    ("x.wild", "A"), ("x.y.wild", "TXT"), ("x.wild", "MX"), ("*.wild", "A"), ("wild", "A"), ("x.wc", "A"), ("x.wc", "MX"),
    ("c", "A"), ("b.c", "TXT"), ("a.b.c", "TXT"), ("x.b.c", "TXT"), ("nothing", "A"), ("a", "A"), ("zzz", "A"), ("x.www", "A"),
    ("signed", "DS"), ("sub", "DS"), ("_s._tcp", "SRV"), ("_tcp", "A"),
]  # fmt: skip
"""Queries whose replies must be secure: positive, negative, for wildcards, for aliases, and DS records."""
IN_THE_ZONE = [one for one in QUERIES if one != ("@", "DS")]
"""The queries whose replies delv validates without the parent zone."""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


needs_coredns = pytest.mark.skipif(not COREDNS, reason="coredns is not installed (SVCDNS_TEST_COREDNS)")


def full(name: str) -> str:
    return "example.org." if name == "@" else f"{name}.example.org."


def prepare(folder: Path, text: str = ZONE) -> None:
    (folder / "zone").write_text(text)
    os.utime(folder / "zone", (1_700_000_000, 1_700_000_000))
    shutil.copytree(KEYS, folder / "keys")


def has_zone(server: Server) -> bool:
    return server.records("example.org.", "A") == ["192.0.2.80"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Returns a server that has signed the zone."""
    folder = tmp_path_factory.mktemp("signed")
    prepare(folder)
    with Server(folder, COREFILE) as server:
        until("the signed zone", lambda: has_zone(server))
        yield server


def trust_anchor() -> str:
    return next(one for one in (KEYS / f"{KEY}.key").read_text().splitlines() if not one.startswith(";"))


# -- the file


@needs("dnssec-verify")
def test_bind_verifies_the_signed_file(server: Server) -> None:
    command = ["dnssec-verify", "-z", "-o", "example.org", f"{server.folder}/out/db.example.org.signed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Zone fully signed" in done.stdout + done.stderr) == (0, True), done.stderr


def records(path: Path) -> set[tuple[str, ...]]:
    """Returns the records of a file without serial, times of signatures and signatures."""
    out: set[tuple[str, ...]] = set()
    for record in read(path.read_bytes(), names.ROOT, str(path)):
        owner, ttl, _, rtype, data = line(record).split("\t")
        words = data.lower().split()
        if record.rtype == Type.RRSIG:
            words = [*words[:4], *words[6:8]]
        elif record.rtype == Type.SOA:
            words[2] = ""
        out.add((owner.lower(), ttl, rtype, " ".join(words)))
    return out


class CoreDns:
    """A CoreDNS with a Corefile in a folder."""

    def __init__(self, folder: Path, corefile: str) -> None:
        self.port = free_port()
        (folder / "Corefile.coredns").write_text(
            corefile.replace("{port}", str(self.port)).replace("{dir}", str(folder))
        )
        with (folder / "log.coredns").open("wb") as log:
            self._process = subprocess.Popen(
                [COREDNS, "-conf", str(folder / "Corefile.coredns")], stdout=log, stderr=log, cwd=folder
            )

    def __enter__(self) -> Self:
        """Returns itself at once."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Ends CoreDNS."""
        self._process.kill()
        self._process.wait(TIMEOUT)

    def has_zone(self) -> bool:
        try:
            reply = dns.query.udp(dns.message.make_query("example.org.", "A"), "127.0.0.1", 1, self.port)
        except (OSError, dns.exception.Timeout):
            return False
        return bool(reply.answer)


@needs_coredns
def test_the_records_are_those_of_coredns(server: Server, tmp_path: Path) -> None:
    """All records but the times of signatures and the signatures themselves are equal."""
    (tmp_path / "out").mkdir()
    prepare(tmp_path, ZONE.replace("        300 NS", "        3600 NS").replace("@        NS", "@        3600 NS"))
    ours = tmp_path / "ours"
    ours.mkdir()
    prepare(ours, (tmp_path / "zone").read_text())
    signed = tmp_path / "out" / "db.example.org.signed"
    corefile = COREFILE.replace("    prometheus 127.0.0.1:{metrics}\n", "")
    with CoreDns(tmp_path, corefile), Server(ours, COREFILE) as other:
        until("the file of CoreDNS", signed.exists)
        until("our file", (ours / "out" / "db.example.org.signed").exists)
        assert records(ours / "out" / "db.example.org.signed") == records(signed)
        del other


@needs_coredns
def test_coredns_serves_our_file_and_we_serve_the_file_of_coredns(server: Server, tmp_path: Path) -> None:
    """Each answer of a server from the other's file is valid."""
    prepare(tmp_path)
    (tmp_path / "out").mkdir()
    serve = "example.org:{port} {\n bind 127.0.0.1\n file FILE\n}\n"
    ours = f"{server.folder}/out/db.example.org.signed"
    with CoreDns(tmp_path, serve.replace("FILE", ours)) as coredns:
        until("our zone in CoreDNS", coredns.has_zone)
        for name, rtype in [
            ("www", "A"),
            ("x.wild", "A"),
            ("signed", "DS"),
            ("@", "DNSKEY"),
            ("nothing", "A"),
            ("www", "MX"),
        ]:
            validate(ask(coredns.port, name, rtype))
    with CoreDns(tmp_path, COREFILE.replace("    prometheus 127.0.0.1:{metrics}\n", "")):
        signed = tmp_path / "out" / "db.example.org.signed"
        until("the file of CoreDNS", signed.exists)
    other = tmp_path / "other"
    other.mkdir()
    with Server(other, serve.replace("FILE", str(signed))) as mine:
        until("the zone of CoreDNS", lambda: has_zone(mine))
        for name, rtype in [("www", "A"), ("x.wild", "A"), ("alias", "A"), ("nothing", "A"), ("sub", "DS")]:
            validate(ask(mine.ports["port"], name, rtype), ignored="NS")  # the TTL of CoreDNS's signature is wrong


# -- answers


def ask(port: int, name: str, rtype: str, timeout: float = TIMEOUT) -> dns.message.Message:
    query = dns.message.make_query(full(name), rtype, want_dnssec=True, payload=4096)
    return dns.query.udp(query, "127.0.0.1", timeout, port)


def validate(reply: dns.message.Message, ignored: str = "") -> set[str]:
    """Validates all signed RRsets of a reply with dnspython. Returns what is not signed: owner and type."""
    anchor = dns.rrset.from_text("example.org.", 3600, "IN", "DNSKEY", trust_anchor().split("DNSKEY ")[1])
    unsigned = set()
    for section in (reply.answer, reply.authority, reply.additional):
        for rrset in section:
            if rrset.rdtype == dns.rdatatype.RRSIG:
                continue
            signatures = [one for one in section if one.covers == rrset.rdtype and one.name == rrset.name]
            if not signatures:
                unsigned.add(f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)}")
            elif dns.rdatatype.to_text(rrset.rdtype) != ignored:
                dns.dnssec.validate(rrset, signatures[0], {anchor.name: anchor})
    return unsigned


@pytest.mark.parametrize(("name", "rtype"), QUERIES)
def test_dnspython_validates_each_rrset(server: Server, name: str, rtype: str) -> None:
    reply = ask(server.ports["port"], name, rtype)
    assert reply.answer or reply.authority
    assert validate(reply) == set()


@pytest.mark.parametrize(
    ("name", "unsigned"),
    [("x.sub", {"sub NS", "ns.sub A"}), ("x.signed", {"signed NS", "ns.signed A"})],
)
def test_only_the_proof_of_a_delegation_is_signed(server: Server, name: str, unsigned: set[str]) -> None:
    found = validate(ask(server.ports["port"], name, "A"))
    assert found == {one.replace(" ", ".example.org. ") for one in unsigned}


@needs("delv")
@pytest.mark.parametrize(("name", "rtype"), IN_THE_ZONE)
def test_delv_validates_each_answer(server: Server, tmp_path: Path, name: str, rtype: str) -> None:
    anchor = tmp_path / "anchor"
    flags, protocol, algorithm, *key = trust_anchor().split("DNSKEY ")[1].split()
    anchor.write_text(
        f'trust-anchors {{ example.org. static-key {flags} {protocol} {algorithm} "{"".join(key)}"; }};\n'
    )
    command = ["delv", "@127.0.0.1", "-p", str(server.ports["port"]), "-a", str(anchor), "+root=example.org"]
    done = subprocess.run([*command, full(name), rtype], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    results = {
        one.strip("; ") for one in done.stdout.splitlines() if re.fullmatch(r"; .*(validated|answer|failed).*", one)
    }
    assert results, done.stdout + done.stderr
    assert results <= {"fully validated", "negative response, fully validated"}


class Unbound:
    """An Unbound that resolves the zone through svcdns, with the zone's key as its trust anchor."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self.port = free_port()
        (folder / "unbound.conf").write_text(
            f'server:\n  interface: 127.0.0.1@{self.port}\n  do-daemonize: no\n  username: ""\n  chroot: ""\n'
            f'  directory: "{folder}"\n  pidfile: ""\n  use-syslog: no\n  do-not-query-localhost: no\n'
            f'  trust-anchor: "{trust_anchor()}"\n  module-config: "validator iterator"\n  val-log-level: 2\n'
            f"  num-threads: 1\n  access-control: 127.0.0.0/8 allow\n"
            f"stub-zone:\n  name: example.org.\n  stub-addr: 127.0.0.1@{upstream}\nremote-control:\n  control-enable: no\n"
        )
        with (folder / "unbound.log").open("wb") as log:
            self._process = subprocess.Popen(["unbound", "-c", str(folder / "unbound.conf")], stdout=log, stderr=log)

    def __enter__(self) -> Self:
        """Returns itself when it answers."""
        until("Unbound", self._answers)
        return self

    def __exit__(self, *_error: object) -> None:
        """Ends Unbound."""
        self._process.kill()
        self._process.wait(TIMEOUT)

    def _answers(self) -> bool:
        try:
            return bool(ask(self.port, "www", "A", 1).answer)
        except (OSError, dns.exception.Timeout):
            return False


@needs("unbound")
def test_unbound_validates_each_answer(server: Server, tmp_path: Path) -> None:
    with Unbound(tmp_path, server.ports["port"]) as unbound:
        replies = {(name, rtype): ask(unbound.port, name, rtype) for name, rtype in IN_THE_ZONE}
    secure = {one for one, reply in replies.items() if reply.flags & dns.flags.AD}
    assert set(replies) - secure == set()
    denied = {name for (name, _), reply in replies.items() if reply.rcode() == dns.rcode.NXDOMAIN}
    assert denied == {"dangling", "x.b.c", "nothing", "a", "zzz", "x.www"}


# -- the life of a signed file


def test_a_new_version_and_a_fault(tmp_path: Path) -> None:
    """SIGUSR1 signs a changed zone file. If the file is wrong, the signed file stays, and a metric is 1."""
    prepare(tmp_path)
    signed = tmp_path / "out" / "db.example.org.signed"
    with Server(tmp_path, COREFILE) as server:
        until("the signed zone", lambda: has_zone(server))
        (tmp_path / "zone").write_text(ZONE + "new A 192.0.2.10\n")
        server.process.send_signal(signal.SIGUSR1)
        until("the new name", lambda: server.records("new.example.org.") == ["192.0.2.10"])
        before = signed.read_bytes()
        labels = f'{{file="{signed}",zone="example.org."}}'

        def metric(name: str) -> float:
            text = http(server.ports["metrics"], "/metrics")[1]
            return next((float(one.split()[-1]) for one in text.splitlines() if one.startswith(name + labels)), -1.0)

        until("the metrics", lambda: metric("svcdns_sign_expiration_timestamp_seconds") > 1_700_000_000)
        (tmp_path / "zone").write_text(ZONE + "bad A 192.0.2\n")
        server.process.send_signal(signal.SIGUSR1)
        until("the metric of the fault", lambda: metric("svcdns_sign_failed") == 1.0)
        assert f"{tmp_path}/zone:{len(ZONE.splitlines()) + 1}:" in server.log
        assert signed.read_bytes() == before
        assert server.records("new.example.org.") == ["192.0.2.10"]


def test_a_missing_key_is_an_error_at_a_start(tmp_path: Path) -> None:
    prepare(tmp_path)
    with Server(tmp_path, COREFILE.replace(KEY, "none")) as server:
        until("the end", lambda: server.process.poll() is not None)
        assert f"Corefile:7:18 - Error during parsing: plugin/sign: open {tmp_path}/keys/none.key" in server.log
