"""*dnssec* with validators (Unbound, delv, dnspython), and beside CoreDNS. Skipped without the program."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.rrset
import pytest

from svcdns.dnssec.keys import load_key
from tests.support.extras import PYTHON, ExtrasServer, needs_extras
from tests.support.server import REPLY_TIMEOUT, TIMEOUT, Server, free_port, http, until
from tests.support.zone_keys import ED25519, KSK, RSA, ZSK, dns_record

pytestmark = pytest.mark.integration

ZONE = """\
$TTL 300
@ IN SOA ns admin 1 7200 3600 1209600 3600
@ IN NS ns
@ IN MX 10 mail
ns IN A 127.0.0.1
mail IN A 192.0.2.25
www IN A 192.0.2.1
www IN A 192.0.2.2
alias IN CNAME www
dangling IN CNAME nothing
*.wild IN A 192.0.2.9
*.aliases IN CNAME www
a.empty IN A 192.0.2.7
_a._tcp IN SRV 1 2 80 www
moved IN DNAME www
unsigned IN NS ns
signed IN NS ns
"""
COREFILE = """\
example.org:{port} {
    bind 127.0.0.1
    dnssec {
        key file KEYS
    }
    file {dir}/zone
    prometheus 127.0.0.1:{metrics}
}
unsigned.example.org:{ready} {
    bind 127.0.0.1
    hosts {
        192.0.2.60 www.unsigned.example.org
    }
}
signed.example.org:{ready} {
    bind 127.0.0.1
    dnssec {
        key file ZSK
    }
    template IN A {
        answer "{{ .Name }} 60 IN A 192.0.2.61"
    }
}
"""
POSITIVE = [
    ("www", "A", "192.0.2.1"), ("@", "MX", "mail.example.org."), ("x.wild", "A", "192.0.2.9"), ("alias", "A", "192.0.2.2"),
    ("x.aliases", "A", "192.0.2.1"), ("_a._tcp", "SRV", "www.example.org."), ("@", "DNSKEY", "257 3"), ("@", "SOA", "admin"),
]  # fmt: skip
NEGATIVE = [
    ("no", "A"), ("no.such", "TXT"), ("www", "TXT"), ("@", "TXT"), ("empty", "A"), ("x.wild", "AAAA"), ("alias", "AAAA"),
    ("dangling", "A"), ("x.aliases", "MX"), ("unsigned", "DS"), ("no", "DS"),
]  # fmt: skip

DIFFERENT = {("alias", "AAAA"), ("x.aliases", "MX"), ("dangling", "A")}
"""Aliases whose authority section in CoreDNS differs (docs/supported.md#file)."""


def name(text: str) -> str:
    return "example.org." if text == "@" else f"{text}.example.org."


def signing(folder: Path, *keys: str) -> Server:
    """Starts the server with these keys, and with a signed and an unsigned zone below its zone."""
    ds = dns.dnssec.make_ds("signed.example.org.", dns_record(load_key(ZSK)), "SHA256")
    (folder / "zone").write_text(f"{ZONE}signed IN DS {ds.to_text()}\n")
    return Server(folder, COREFILE.replace("KEYS", " ".join(keys)).replace("ZSK", ZSK))


def until_signing(server: Server) -> None:
    until("the first answer", lambda: server.records("www.example.org.")[0] == "192.0.2.1")


def dnskeys(*keys: str) -> list[str]:
    """The trust anchors: the keys as records of `example.org.`."""
    return [f"example.org. 3600 IN DNSKEY {dns_record(load_key(key)).to_text()}" for key in keys]


@pytest.fixture(params=[(ZSK,), (KSK, ZSK), (RSA,), (ED25519,)], ids=["one key", "split keys", "RSA", "Ed25519"])
def keys(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


class Resolver:
    """Unbound, with `keys` as its trust anchors."""

    def __init__(self, folder: Path, server: Server, keys: tuple[str, ...]) -> None:
        if shutil.which("unbound") is None:
            pytest.skip("unbound is not installed")
        self.port = free_port()
        (folder / "anchors").write_text("\n".join(dnskeys(*keys)) + "\n")
        stubs = "".join(
            f"stub-zone:\n  name: {zone}\n  stub-addr: 127.0.0.1@{server.ports[port]}\n"
            for zone, port in (
                ("example.org", "port"),
                ("unsigned.example.org", "ready"),
                ("signed.example.org", "ready"),
            )
        )
        (folder / "unbound.conf").write_text(
            f'server:\n  interface: 127.0.0.1\n  port: {self.port}\n  do-daemonize: no\n  use-syslog: no\n  username: ""\n'
            f'  chroot: ""\n  directory: "{folder}"\n  pidfile: ""\n  do-not-query-localhost: no\n  verbosity: 2\n'
            f'  trust-anchor-file: "{folder}/anchors"\n{stubs}remote-control:\n  control-enable: no\n'
        )
        with (folder / "unbound.log").open("wb") as log:
            command = ["unbound", "-d", "-c", str(folder / "unbound.conf")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def ask(self, owner: str, rtype: str) -> dns.message.Message | None:
        query = dns.message.make_query(owner, rtype, want_dnssec=True)
        try:
            return dns.query.udp(query, "127.0.0.1", REPLY_TIMEOUT, self.port)
        except (OSError, dns.exception.DNSException):
            return None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)


@pytest.fixture
def pair(tmp_path: Path, keys: tuple[str, ...]) -> Iterator[tuple[Server, Resolver]]:
    with signing(tmp_path, *keys) as server:
        resolver = Resolver(tmp_path, server, keys[:1])
        try:
            until_signing(server)
            until("unbound", lambda: resolver.ask("example.org.", "SOA"))
            yield server, resolver
        finally:
            resolver.stop()


def test_unbound_validates(pair: tuple[Server, Resolver]) -> None:
    """Each answer has AD, and also each denial. The unsigned zone is insecure."""
    _, resolver = pair
    for owner, rtype, text in POSITIVE:
        reply = resolver.ask(name(owner), rtype)
        assert reply is not None
        assert reply.flags & dns.flags.AD, f"{owner} {rtype}"
        assert text.replace("257 3", "3 ") in str(reply.answer)
    for owner, rtype in NEGATIVE:
        reply = resolver.ask(name(owner), rtype)
        assert reply is not None
        assert reply.flags & dns.flags.AD, f"{owner} {rtype}"
        assert (reply.rcode(), [one for one in reply.answer if one.rdtype == dns.rdatatype.from_text(rtype)]) == (0, [])
    for owner, secure in (("www.unsigned", False), ("www.signed", True)):
        reply = resolver.ask(name(owner), "A")
        assert reply is not None
        assert "192.0.2.6" in str(reply.answer)
        assert bool(reply.flags & dns.flags.AD) is secure


def test_delv_validates(tmp_path: Path, keys: tuple[str, ...]) -> None:
    if shutil.which("delv") is None:
        pytest.skip("delv is not installed")
    anchor = dns_record(load_key(keys[0])).to_text().split(None, 3)
    text = f'{anchor[0]} {anchor[1]} {anchor[2]} "{anchor[3]}"'
    (tmp_path / "anchors").write_text(f"trust-anchors {{ example.org. static-key {text}; }};\n")
    with signing(tmp_path, *keys) as server:
        until_signing(server)
        command = [
            "delv",
            "@127.0.0.1",
            "-p",
            str(server.ports["port"]),
            "-a",
            str(tmp_path / "anchors"),
            "+root=example.org",
        ]
        for owner, rtype in [*((owner, rtype) for owner, rtype, _ in POSITIVE), *NEGATIVE]:
            done = subprocess.run(
                [*command, name(owner), rtype], capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            assert "fully validated" in done.stdout, f"{owner} {rtype}: {done.stdout}{done.stderr}"


def test_dnspython_validates(tmp_path: Path, keys: tuple[str, ...]) -> None:
    """Each RRset of each reply has a valid signature, over UDP or TCP."""
    zone = dns.name.from_text("example.org.")
    known = {zone: dns.rrset.from_rdata_list(zone, 3600, [dns_record(load_key(key)) for key in keys])}
    with signing(tmp_path, *keys) as server:
        until_signing(server)
        for owner, rtype in [*((owner, rtype) for owner, rtype, _ in POSITIVE), *NEGATIVE]:
            query = dns.message.make_query(name(owner), rtype, want_dnssec=True)
            reply, _ = dns.query.udp_with_fallback(query, "127.0.0.1", REPLY_TIMEOUT, server.ports["port"])
            assert reply.answer + reply.authority
            for section in (reply.answer, reply.authority):
                for rrset in section:
                    if rrset.rdtype != dns.rdatatype.RRSIG:
                        covers = (section, rrset.name, rrset.rdclass, dns.rdatatype.RRSIG, rrset.rdtype)
                        dns.dnssec.validate(rrset, reply.find_rrset(*covers), known)  # type: ignore[arg-type]


def test_an_alias_of_a_denied_name(tmp_path: Path) -> None:
    """The reply has the NSEC record of the target once."""
    with signing(tmp_path, ZSK) as server:
        until_signing(server)
        query = dns.message.make_query("dangling.example.org.", "A", want_dnssec=True)
        reply = dns.query.tcp(query, "127.0.0.1", REPLY_TIMEOUT, server.ports["port"], one_rr_per_rrset=True)
        found = [
            f"{one.name} {dns.rdatatype.to_text(one.rdtype)} {dns.rdatatype.to_text(one.covers)}"
            for one in reply.authority
        ]
        assert sorted(found) == [
            "example.org. RRSIG SOA",
            "example.org. SOA TYPE0",
            "nothing.example.org. NSEC TYPE0",
            "nothing.example.org. RRSIG NSEC",
        ]


def test_new_key_files_after_a_reload(tmp_path: Path) -> None:
    """A damaged key file changes nothing. The private key is in no log line and on no page."""
    for suffix in ("key", "private"):
        shutil.copy(f"{ZSK}.{suffix}", tmp_path / f"K.{suffix}")

    def tags() -> list[int]:
        reply = server.ask("example.org.", "DNSKEY")
        return [dns.dnssec.key_id(rdata) for rrset in reply.answer for rdata in rrset]

    with signing(tmp_path, str(tmp_path / "K")) as server:
        until_signing(server)
        assert tags() == [37031]
        (tmp_path / "K.private").write_text("Private-key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\n")
        server.process.send_signal(signal.SIGUSR1)
        server.until_logged(f"plugin/dnssec: {tmp_path}/K.private: the field 'PrivateKey' is missing")
        assert tags() == [37031]
        for suffix in ("key", "private"):
            shutil.copy(f"{KSK}.{suffix}", tmp_path / f"K.{suffix}")
        server.process.send_signal(signal.SIGUSR1)
        until("the new key", lambda: tags() == [41819])
        assert server.records("www.example.org.")[0] == "192.0.2.1"
        secrets = [
            line.split()[1] for key in (ZSK, KSK) for line in Path(f"{key}.private").read_text().splitlines()[2:3]
        ]
        assert server.metric("coredns_dnssec_cache_misses_total") == 0
        assert not any(secret in server.log for secret in secrets)


def test_a_missing_key_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    with signing(tmp_path, f"{ZSK} {tmp_path}/Kmissing") as server:
        assert server.process.wait(TIMEOUT) == 1
        column = len(f"        key file {ZSK} ") + 1
        assert f"Corefile:4:{column} - Error during parsing: plugin/dnssec: open {tmp_path}/Kmissing.key" in server.log


@pytest.mark.parametrize("dnssec_ok", [True, False])
def test_coredns_gives_the_same_replies(tmp_path: Path, keys: tuple[str, ...], *, dnssec_ok: bool) -> None:
    """Flags, rcode and records are the same, except the octets of signatures."""
    program = shutil.which(os.environ.get("COREDNS", ""))
    if program is None:
        pytest.skip("COREDNS names no program")
    rows = [*((owner, rtype) for owner, rtype, _ in POSITIVE), *NEGATIVE, ("x.signed", "A"), ("a.b.unsigned", "A")]
    rows = [row for row in rows if row not in DIFFERENT]
    rows += [("no", "NSEC"), ("www", "NSEC"), ("@", "NSEC"), ("www", "RRSIG"), ("@", "DS"), ("no", "TYPE65280")]
    with signing(tmp_path, *keys) as server:
        until_signing(server)
        port = free_port()
        corefile = (
            server.corefile.read_text()
            .replace(f":{server.ports['port']} ", f":{port} ")
            .partition("unsigned.example")[0]
        )
        (tmp_path / "other").write_text(corefile.replace(f"    prometheus 127.0.0.1:{server.ports['metrics']}\n", ""))
        with (tmp_path / "coredns.log").open("wb") as log:
            other = subprocess.Popen(
                [program, "-conf", str(tmp_path / "other")], stdout=log, stderr=log, start_new_session=True
            )
        try:
            until("CoreDNS", lambda: shown(port, "www", "A", dnssec_ok=dnssec_ok))
            for owner, rtype in rows:
                expected = shown(port, owner, rtype, dnssec_ok=dnssec_ok)
                assert shown(server.ports["port"], owner, rtype, dnssec_ok=dnssec_ok) == expected
        finally:
            other.terminate()
            other.wait(TIMEOUT)


def shown(port: int, owner: str, rtype: str, *, dnssec_ok: bool) -> list[str]:
    """Rcode, flags and records of a reply. A signature is shown without its times and octets."""
    query = dns.message.make_query(name(owner), rtype, want_dnssec=dnssec_ok)
    try:
        reply = dns.query.tcp(query, "127.0.0.1", REPLY_TIMEOUT, port, one_rr_per_rrset=True)
    except (OSError, EOFError):
        return []
    lines = []
    for number, section in enumerate((reply.answer, reply.authority, reply.additional)):
        for rrset in section:
            words = rrset.to_text().split()
            if words[3] == "RRSIG":
                words[8:] = words[10:12]
            lines.append(f"{number} {' '.join(words)}")
    return [str(reply.rcode()), dns.flags.to_text(reply.flags), str(reply.ednsflags), *sorted(lines)]


@needs_extras
def test_a_key_from_aws(tmp_path: Path) -> None:
    """moto has the API of AWS Secrets Manager. A secret that does not exist is an error at the start."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": url,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "secret-of-aws",
    }
    text = json.dumps({suffix: Path(f"{ZSK}.{suffix}").read_text() for suffix in ("key", "private")})
    command = [PYTHON, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "moto.log").open("wb") as log:
        moto = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until("moto", lambda: http(port, "/moto-api/")[0])
        create = urllib.request.Request(
            url,
            json.dumps({"Name": "Kone", "SecretString": text, "ClientRequestToken": "x" * 32}).encode(),
            {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": "secretsmanager.CreateSecret",
                "Authorization": "AWS4-HMAC-SHA256 Credential=AKIATEST/20261130/eu-west-1/secretsmanager/aws4_request",
            },
        )
        urllib.request.urlopen(create, timeout=REPLY_TIMEOUT).close()
        (tmp_path / "zone").write_text(ZONE)
        corefile = COREFILE.partition("unsigned.example")[0].replace("key file KEYS", "key aws_secretsmanager {}")
        with ExtrasServer(tmp_path, corefile.replace("{}", "Kone"), **settings) as server:
            until_signing(server)
            reply = server.ask("example.org.", "DNSKEY")
            assert [dns.dnssec.key_id(rdata) for rrset in reply.answer for rdata in rrset] == [37031]
        with ExtrasServer(tmp_path, corefile.replace("{}", "Ktwo"), **settings) as server:
            assert server.process.wait(TIMEOUT) == 1
            assert "Corefile:4:32 - Error during parsing: plugin/dnssec: Ktwo: An error occurred" in server.log
            assert "secret-of-aws" not in server.log
    finally:
        moto.kill()
        moto.wait()
