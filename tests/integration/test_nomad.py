"""*nomad* beside CoreDNS, with a double of Nomad's HTTP API; and over TLS."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path

import dns.message
import pytest

from tests.support.certificates import Authority
from tests.support.nomad_double import NomadDouble
from tests.support.server import Server, until

pytestmark = pytest.mark.integration

SERVICES: dict[tuple[str, str], list[tuple[str, int]]] = {
    ("default", "web"): [("10.0.0.1", 80), ("10.0.0.2", 81), ("2001:db8::1", 65535), ("::ffff:10.0.0.3", 8080)],
    ("default", "six"): [("2001:db8::6", 1)],
    ("other", "web"): [("10.0.1.1", 80), ("10.0.1.1", 81)],
    ("other", "host"): [("10.0.0.4", 1), ("host.test", 2), ("10.0.0.5", 3)],
    ("default", "empty"): [],
}
NAMES = (
    "web.default", "Web.Default", "six.default", "web.other", "host.other", "empty.default", "no.default", "web.no",
    "web.default.more", "a b.default", r"a\/b.default", r"a\.b.default", "default", "web.*", "_web._tcp.default",
)  # fmt: skip
COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    nomad nomad.test {
        MORE
    }
}
"""


class CoreDns(Server):
    """CoreDNS with the same Corefile."""

    def command(self) -> list[str]:
        return [os.environ["COREDNS"]]


def shown(message: dns.message.Message) -> list[str]:
    """Returns the header's flags, the rcode, and the records in their order, with the spelling of their names."""
    sections = (message.answer, message.authority, message.additional)
    return [f"{message.flags:x}", *("\n".join(rrset.to_text() for rrset in section) for section in sections)]


@pytest.mark.skipif(shutil.which(os.environ.get("COREDNS", "")) is None, reason="COREDNS does not name CoreDNS")
def test_answers_are_those_of_coredns(tmp_path: Path) -> None:
    token = "token sesame\n        ttl 10"
    with NomadDouble(SERVICES, "sesame") as nomad:
        corefile = COREFILE.replace("MORE", f"address http://127.0.0.1:1 {nomad.url}\n        {token}")
        servers = []
        for kind in (CoreDns, Server):
            folder = tmp_path / kind.__name__
            folder.mkdir()
            servers.append(kind(folder, corefile))
        with servers[0] as coredns, servers[1] as svcdns:
            coredns.until_ready()
            svcdns.until_ready()
            differences = []
            for name in NAMES:
                for rtype in ("A", "AAAA", "SRV", "TXT", "SOA", "ANY"):
                    theirs, ours = (one.ask(f"{name}.nomad.test.", rtype) for one in (coredns, svcdns))
                    if theirs is None or ours is None or shown(theirs) != shown(ours):
                        differences.append((name, rtype, theirs and shown(theirs), ours and shown(ours)))
            assert not differences, "\n".join(map(str, differences))
            assert "sesame" not in svcdns.log


def test_an_outage(tmp_path: Path) -> None:
    """While Nomad is away, queries get SERVFAIL, and the reason is in the log."""
    nomad = NomadDouble(SERVICES)
    with nomad, Server(tmp_path, COREFILE.replace("MORE", f"address {nomad.url}")) as server:
        server.until_ready()
        assert server.records("six.default.nomad.test.", "AAAA") == ["2001:db8::6"]
        nomad.close()
        until("SERVFAIL", lambda: server.records("six.default.nomad.test.", "AAAA") == ["SERVFAIL"])
        server.until_logged(f'[WARNING] plugin/nomad: Get "{nomad.url}/v1/service/six": ')


def test_tls(tmp_path: Path) -> None:
    """The environment variables of Nomad's tools name the certificates."""
    authority = Authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem.decode())
    context.load_cert_chain(*authority.pair("server.global.nomad").write(tmp_path))
    context.verify_mode = ssl.CERT_REQUIRED
    certificate, key = authority.pair("client.global.nomad").write(tmp_path, "client")
    variables = {
        "NOMAD_CACERT": str(authority.write(tmp_path)),
        "NOMAD_CLIENT_CERT": str(certificate),
        "NOMAD_CLIENT_KEY": str(key),
        "NOMAD_TLS_SERVER_NAME": "server.global.nomad",
    }
    with NomadDouble(SERVICES, tls=context) as nomad:
        text = COREFILE.replace("MORE", "ttl 5")
        with Server(tmp_path, text, NOMAD_ADDR=nomad.url, **variables) as server:
            server.until_ready()
            assert server.records("six.default.nomad.test.", "AAAA") == ["2001:db8::6"]
