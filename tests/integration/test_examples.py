"""Each Corefile example of the documentation starts the real server.

The server runs in a network namespace, where each port is free and the addresses of the examples can be bound.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bench.network_namespace import own_network, why_unavailable
from tests.support.certificates import pair
from tests.support.extras import PYTHON
from tests.support.geoip_database import database
from tests.support.provider_doubles import ProviderDouble, google_credentials
from tests.support.server import Server, until
from tests.support.zone_keys import KEYS

ROOT: Final = Path(__file__).parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
ADDRESSES: Final = ("169.254.20.10/32", "10.96.0.10/32", "10.0.0.1/32", "192.0.2.53/32")
"""Addresses that examples listen on, in addition to those of loopback."""
ENDPOINT: Final = "endpoint http://127.0.0.1:6443"
KUBECONFIG: Final = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:6443"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: staging, context: {cluster: c, user: u}}]
current-context: staging
"""


def examples(page: Path) -> list[str]:
    return re.findall(r"^```corefile\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


PAGES: Final = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if examples(page) and page.stem != "cookbook"  # tests/corefiles starts the recipes
]


def needs_extra(text: str) -> bool:
    """Returns True if a Corefile has a plugin whose library is an extra."""
    return re.search(r"^ *(azure|clouddns|route53) ", text, re.MULTILINE) is not None


class Example(Server):
    """A server with an example. The files of the example are in its folder."""

    def write(self, corefile: str) -> None:
        """Writes the Corefile and the files that it names."""
        text = re.sub(r"/etc/(?:svcdns|coredns)/|/var/lib/\w+/", f"{self.folder}/", corefile)
        text = text.replace("ns.corp.example", "192.0.2.54").replace(" snapshot ", f" {ENDPOINT}\n snapshot ")
        text = text.replace(" acme dns", " ca https://127.0.0.1:1/\n acme dns")  # no test asks a real ACME server
        for name in re.findall(rf"{self.folder}/(\S+\.(?:crt|pem|key))", text):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pair().key if "key" in path.name else pair().certificate)
        for name in re.findall(rf"{self.folder}/(K\S+\+\d+)", text):
            for suffix in ("key", "private"):
                shutil.copy(KEYS / f"{name}.{suffix}", self.folder)
        self.corefile.write_text(text)

    def command(self) -> list[str]:
        """Returns the command that starts the program, in an environment that has the library of the plugin."""
        return [PYTHON, "-m", "svcdns"] if needs_extra(self.corefile.read_text()) else super().command()

    def starts(self) -> bool:
        """Waits until the server serves or has ended. Returns True if it serves."""
        until("the start", lambda: "\nsvcdns-" in self.log or self.process.poll() is not None)
        return self.process.poll() is None


@pytest.fixture(scope="module", autouse=True)
def _namespace() -> Iterator[None]:
    """Moves this thread, and the servers that it starts, into a network namespace."""
    if reason := why_unavailable():
        pytest.skip(f"the examples are left out: {reason}")
    with own_network():
        for address in ADDRESSES:
            subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a folder with the files that examples name by relative paths."""
    (tmp_path / "zones").symlink_to(ROOT / "zones")
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    (tmp_path / "GeoLite2-Country.mmdb").write_bytes(database({"127.0.0.2/32": {"country": {"iso_code": "GB"}}}))
    (tmp_path / "aws").write_text("[dns]\naws_access_key_id = AKIATEST\naws_secret_access_key = secret-of-aws\n")
    (tmp_path / "google.json").write_text(google_credentials())
    shutil.copytree(ROOT / "tests" / "dnssec" / "keys", tmp_path / "keys")
    for name in ("apps", "cluster", "deploy", "k8s", "tls"):
        (tmp_path / name).mkdir()
    for name, content in (("tls.crt", pair().certificate), ("tls.key", pair().key), ("ca.crt", pair().certificate)):
        (tmp_path / "tls" / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_example_starts(page: Path, folder: Path) -> None:
    for text in examples(page):
        if needs_extra(text) and not PYTHON:
            pytest.skip("SVCDNS_TEST_EXTRAS does not name a Python with the extras of svcdns")
        has_source = re.search(r" (endpoint|snapshot|manifests|kubeconfig) ", text)
        manifests = {} if has_source else {"SVCDNS_MANIFESTS": str(folder / "cluster")}
        with ProviderDouble(folder) as double, Example(folder, text, **double.environment, **manifests) as server:
            assert server.starts(), f"{text}\n{server.log}"
