"""Tokens, private keys and cookie secrets are in no log line, metric, command line or file of the server."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
from pathlib import Path

import pytest

from tests.support.api_double import ApiDouble, namespace, service
from tests.support.certificates import authority
from tests.support.server import Server, free_port, http, until
from tests.support.zone_keys import ZSK

COREFILE = """
.:{port} {
    bind 127.0.0.1
    debug
    errors
    log
    ready 127.0.0.1:{ready}
    health 127.0.0.1:{health}
    prometheus 127.0.0.1:{metrics}
    kubernetes cluster.local {
        kubeconfig {dir}/kubeconfig
        snapshot {dir}/state/snapshot
    }
    reload 2s 0
}
tls://.:{tls} {
    bind 127.0.0.1
    tls {dir}/server.crt {dir}/server.key
    dnssec example.org {
        key file ZONE_KEY
    }
    whoami
}
""".replace("ZONE_KEY", ZSK)
TOKEN = "token-that-must-stay-secret"
COOKIES = "00112233445566778899aabbccddeeff"


class SecretServer(Server):
    """A server with a port for TLS."""

    def write(self, corefile: str) -> None:
        self.ports.setdefault("tls", free_port())
        super().write(corefile)


def write_kubeconfig(folder: Path, url: str, token: str, key: bytes, certificate: bytes) -> None:
    """Writes a kubeconfig with a token and a client certificate."""
    user = {
        "token": token,
        "client-key-data": base64.b64encode(key).decode(),
        "client-certificate-data": base64.b64encode(certificate).decode(),
    }
    trusted = base64.b64encode(authority().pem).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority-data": trusted}}],
        "users": [{"name": "u", "user": user}],
    }
    (folder / "kubeconfig").write_text(json.dumps(config))


def exposed(server: Server, temporary: Path) -> bytes:
    """Returns everything that others can read: the log, the pages, command lines, and the files that the server has
    written.
    """
    pages = [http(server.ports[name], f"/{name}")[1] for name in ("health", "ready", "metrics")]
    processes = [server.process.pid, *server.children().values()]
    lines = [Path(f"/proc/{pid}/{name}").read_bytes() for pid in processes for name in ("cmdline", "environ")]
    folders = [server.folder / "state", temporary]
    files = [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files, "the snapshot is written"
    return b"\n".join([server.log.encode(), *(page.encode() for page in pages), *lines, *files])


@pytest.mark.slow
def test_secrets_stay_in_the_processes(tmp_path: Path) -> None:
    """During the test, the API server refuses the token. Core dumps must contain no memory."""
    served, client = authority().pair("dns.test"), authority().pair("client.test")
    served.write(tmp_path)
    temporary = tmp_path / "tmp"
    for folder in (temporary, tmp_path / "state"):
        folder.mkdir()
    (tmp_path / "cookies").write_text(f"{COOKIES}\n")
    environ = {"SVCDNS_COOKIE_SECRETS": str(tmp_path / "cookies"), "TMPDIR": str(temporary)}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority().pair("127.0.0.1").write(tmp_path, "api"))
    context.load_verify_locations(cadata=authority().pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    with ApiDouble([namespace("default"), service("web", "10.96.0.7")], tls=context) as api:
        api.token = "another"
        write_kubeconfig(tmp_path, api.url, TOKEN, client.key, client.certificate)
        with SecretServer(tmp_path, COREFILE, **environ) as server:
            until("a refused request in the log", lambda: "401" in server.log or "nauthorized" in server.log)
            api.token = TOKEN
            server.until_ready()
            assert server.records("web.default.svc.cluster.local.") == ["10.96.0.7"]
            until("the snapshot", (tmp_path / "state" / "snapshot").exists)
            found = exposed(server, temporary)
            secrets = [TOKEN.encode(), COOKIES.encode(), bytes.fromhex(COOKIES)]
            for key in (served.key, client.key):
                line = key.splitlines()[1]
                secrets += [line, base64.b64encode(key)[:40], base64.b64decode(line + b"=" * (-len(line) % 4))]
            zone_key = re.findall(rb"^PrivateKey: (.+)$", Path(f"{ZSK}.private").read_bytes(), re.MULTILINE)
            secrets += [*zone_key, *map(base64.b64decode, zone_key)]
            assert [secret for secret in secrets if secret in found] == []
            for pid in (server.process.pid, *server.children().values()):
                limits = Path(f"/proc/{pid}/limits").read_text()
                assert next(line.split()[4] for line in limits.splitlines() if "core file" in line) == "0"
                assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                assert os.fsencode(tmp_path) in environment, "the page of the process is readable here"
            server.stop()
