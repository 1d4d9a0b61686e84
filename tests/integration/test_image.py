"""The build of the container image, its files, and its run with the rights that deploy/ gives.

The tests need buildah, a network, and about two minutes. SVCDNS_TEST_DEBIAN names an image of Debian 12 with apt.
Without it, the tests make such an image from Debian's packages with debootstrap.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import pytest
import yaml

from bench.processes import cpu_seconds_since_start
from svcdns import __version__
from svcdns.cli.serve import COMMANDS
from tests.support import certificates
from tests.support.api_double import ApiDouble
from tests.support.container import NAMESPACES, USER, fields, specification, why_not_possible, writable
from tests.support.image import ROOT, Image, ImageBundle
from tests.support.in_cluster import SERVICE_ACCOUNT, cluster, service_account
from tests.support.server import Server, is_alive, until
from tools import image as recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

LARGEST: Final = 120_000_000
"""Octets that the root file system may take."""
SLOWEST: Final = 1.1
"""The CPU time of a start in the image, compared with a start from the checkout."""
COREFILE: Final = """
cluster.local:{port} {
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    kubernetes
    cache
}
other.test:{port} {
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    kubernetes {
        kubeconfig /etc/kubeconfig
    }
}
"""
IMPORTS: Final = """
import importlib, json, pkgutil, ssl, sys, sysconfig
from pathlib import Path

def extensions(folder):
    return [".".join(path.relative_to(folder).with_name(path.name.partition(".")[0]).parts) for path in folder.rglob("*.so")]

packages = Path(sysconfig.get_path("platlib"))
sys.path.append(str(packages))
import svcdns
names = [module.name for module in pkgutil.walk_packages(svcdns.__path__, "svcdns.")]
names += extensions(packages) + extensions(Path(sysconfig.get_path("stdlib"), "lib-dynload")) + ["ctypes", "uuid"]
failed = {}
for name in names:
    if not name.endswith("__main__"):
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed[name] = repr(error)
found = {"imported": len(names), "failed": failed, "authorities": ssl.create_default_context().cert_store_stats()}
print(json.dumps(found))
"""
"""Imports all modules of svcdns and all extension modules of the image."""


def test_the_image_is_small(image: Image) -> None:
    shown = subprocess.run(["du", "-s", "--block-size=1", image.root], check=True, capture_output=True, text=True)
    assert int(shown.stdout.split()[0]) <= LARGEST


def test_two_builds_have_the_same_layers(images: list[Image]) -> None:
    """The first layer is the base, the second is the application."""
    assert images[0].root != images[1].root
    assert len(images[0].layers) >= 2
    assert images[0].layers == images[1].layers


def test_the_labels_name_version_and_commit(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image.config["Labels"].items()}
    command = ["git", "log", "-1", "--format=%h %cI"]
    revision, created = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert (labels["title"], labels["licenses"], labels["version"]) == ("svcdns", "Apache-2.0", __version__)
    assert labels["revision"].startswith(revision)
    assert datetime.fromisoformat(labels["created"]) == datetime.fromisoformat(created)


def test_the_sbom_lists_each_package(image: Image) -> None:
    listed = json.loads((image.root / "app/sbom.cdx.json").read_text())
    (packages,) = (image.root / "app/lib").glob("python*/site-packages")
    installed = {
        (re.sub(r"[-_.]+", "-", name).lower(), version)
        for name, _, version in (one.stem.rpartition("-") for one in packages.glob("*.dist-info"))
    }
    found = {(re.sub(r"[-_.]+", "-", one["name"]).lower(), one["version"]) for one in listed["components"]}
    assert listed["bomFormat"] == "CycloneDX"
    assert listed["metadata"]["component"]["name"] == "svcdns"
    assert {name for name, _ in installed - found} == {"svcdns"}
    assert found <= installed


def test_scanners_find_the_debian_packages(image: Image) -> None:
    status = {path.name: path.read_text() for path in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert set(status) == set(recipe.PACKAGES)
    for name, text in status.items():
        assert re.search(rf"^Package: {re.escape(name)}$.*^Version: \S", text, re.MULTILINE | re.DOTALL)
        assert (image.root / "usr/share/doc" / name).exists()
    bill = json.loads((image.root / "var/lib/dpkg/sbom.cdx.json").read_text())
    assert {one["name"] for one in bill["components"]} == set(status)
    assert "ID=debian" in (image.root / "etc/os-release").read_text()


def test_the_image_has_no_tools(image: Image) -> None:
    """The image has no shell, no package manager and no programs besides the interpreter and svcdns."""
    programs = {path.name for folder in ("app/bin", "usr/bin", "usr/sbin") for path in (image.root / folder).iterdir()}
    assert programs == {"python", "python3", "svcdns", "coredns"}
    assert not list((image.root / "app/lib").glob("python*/site-packages/pip"))
    assert (image.root / "coredns").is_symlink()


def test_everything_can_be_imported(image: Image) -> None:
    """No module of svcdns needs a file that the image leaves out, and no extension module lacks a library."""
    shown = image.run("/app/bin/python", "-I", "-c", IMPORTS)
    found = json.loads(shown.stdout)
    assert found["failed"] == {}
    assert found["imported"] > 500
    assert found["authorities"]["x509_ca"] > 100


def test_the_image_has_the_plugins_of_the_checkout(image: Image) -> None:
    here = subprocess.run([sys.executable, "-m", "svcdns", "-plugins"], check=True, capture_output=True, text=True)
    assert image.run("/coredns", "-plugins").stdout == here.stdout


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("serve", "help")])
def test_each_command_has_a_help_text_in_the_image(image: Image, command: str) -> None:
    shown = image.run("/coredns", command, "-help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"svcdns {command}" in shown.stdout


def kubeconfig(folder: Path, server: str, token: str) -> Path:
    """Writes a kubeconfig whose credentials are the output of a program, and returns its path."""
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token},
    }
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "/app/bin/python",
        "args": ["-I", "-c", f"print({json.dumps(credential)!r})"],
        "interactiveMode": "Never",
    }
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [
            {"name": "here", "cluster": {"server": server, "certificate-authority": f"{SERVICE_ACCOUNT}/ca.crt"}}
        ],
        "users": [{"name": "here", "user": {"exec": program}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageBundle]:
    """Runs the image with an in-cluster configuration and with a kubeconfig."""
    if reason := why_not_possible():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("bundle")
    folder.chmod(0o755)
    account = service_account(folder, "in-cluster")
    tls = certificates.server(certificates.pair(), folder)
    with cluster("10.96.0.1", "in-cluster", tls) as inside, cluster("10.97.0.1", "by-program", tls) as other:
        mounted = {account: SERVICE_ACCOUNT, kubeconfig(folder, other.url, "by-program"): "/etc/kubeconfig"}
        variables = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(inside.port)}
        with bundle(image, folder, COREFILE, mounted, variables) as server:
            server.until_ready()
            yield server


def bundle(
    image: Image, folder: Path, corefile: str, mounted: Mapping[Path, str], variables: Mapping[str, str]
) -> ImageBundle:
    """Starts the image with these files and variables."""
    attributes = {"image": image, "mounted": mounted, "variables": variables}
    started: ImageBundle = type("Configured", (ImageBundle,), attributes)(folder, corefile)
    return started


def test_the_image_serves_an_in_cluster_configuration_and_a_kubeconfig(container: ImageBundle) -> None:
    """The kubeconfig's token comes from a program."""
    assert container.records("web.default.svc.cluster.local.") == ["10.96.0.1"]
    assert container.records("web.default.svc.other.test.") == ["10.97.0.1"]


def test_the_image_runs_with_the_least_rights(container: ImageBundle) -> None:
    """As the image's user, without new privileges, with the default seccomp profile, on a read-only root."""
    assert container.image.config["User"] == f"{USER}:{USER}"
    assert len(container.processes()) >= 3
    for pid in container.processes():
        found = fields(pid)
        assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1")
        assert set(found["Uid"].split()) == {str(USER)}
        assert Path(f"/proc/{pid}/root").samefile(f"/proc/{container.first}/root")
    assert writable(container.first) <= {"/proc", "/dev/null", "/dev/full", "/dev/shm"}
    assert "Traceback" not in container.log


def test_the_image_starts_a_worker_again(container: ImageBundle) -> None:
    worker = next(pid for pid in container.processes() if b"svcdns.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(worker, signal.SIGKILL)
    until("the worker's end", lambda: not is_alive(worker))
    container.until_ready()
    assert container.ask("web.default.svc.cluster.local.") is not None


BIND: Final = """
import socket
from pathlib import Path
print(*[line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")])
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("0.0.0.0", 53))
"""


@pytest.mark.parametrize(("permitted", "error"), [(True, ""), (False, "Permission denied")])
def test_port_53_without_new_privileges(image: Image, permitted: bool, error: str, tmp_path: Path) -> None:
    """The file capability takes effect if runc has set the capability in the permitted set, as for containerd."""
    if reason := why_not_possible():
        pytest.skip(reason)
    sets = ("bounding", "effective", "permitted") if permitted else ("bounding",)
    command = ["/app/bin/python", "-I", "-c", BIND]
    config = specification(
        image.root, [], command, image.config["Env"], errno.EPERM, sets=sets, namespaces=(*NAMESPACES, "network")
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = ["runc", f"--root={tmp_path}/state", "run", f"--bundle={tmp_path}", f"svcdns-port-{os.getpid()}"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)
    assert int(done.stdout, 16) == (1 << 10 if permitted else 0)
    assert (done.returncode != 0) == bool(error)
    assert error in done.stderr


START: Final = """
.:{port} {
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    kubernetes cluster.local {
        endpoint ENDPOINT
    }
    forward . 127.0.0.1:9
    cache
    loop
    reload
    loadbalance
}
"""


def test_a_start_takes_no_more_cpu_time_than_from_a_checkout(image: Image, tmp_path: Path) -> None:
    if reason := why_not_possible():
        pytest.skip(reason)
    tmp_path.chmod(0o755)
    here, there = [], []
    with ApiDouble() as api:
        corefile = START.replace("ENDPOINT", api.url)
        for number in range(2):
            folders = [tmp_path / f"{kind}-{number}" for kind in ("here", "there")]
            for folder in folders:
                folder.mkdir()
            with Server(folders[0], corefile, PYTHONDONTWRITEBYTECODE="1") as server:
                server.until_ready()
                here.append(cpu_seconds_since_start(server.process.pid))
            with bundle(image, folders[1], corefile, {}, {}) as container:
                container.until_ready()
                there.append(cpu_seconds_since_start(container.first))
    assert min(there) <= SLOWEST * min(here)
