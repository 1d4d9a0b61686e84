"""The build of the container image, and its run with the rights that deploy/ gives.

The tests need buildah, a network, and about two minutes. SVCDNS_TEST_BASE names the base image, which has Python 3.11
or newer with venv, and setcap or apt. Without it, the tests make a base image from Debian's packages with debootstrap.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.container import USER, Bundle, bound, fields, why_not_possible, writable
from tests.support.server import is_alive, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = "localhost/svcdns-test"
BASE: Final = os.environ.get("SVCDNS_TEST_BASE", "")
DEBIAN: Final = "localhost/svcdns-test-base:bookworm"
PACKAGES: Final = "python3-venv,libcap2-bin"
COREFILE: Final = """
.:{port} {
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    cache
    whoami
}
"""
CERTIFICATES: Final = "/etc/ssl/certs"


def buildah(*arguments: str) -> str:
    environ = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    return subprocess.run(
        ["buildah", *arguments], check=True, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ).stdout


def debian(folder: Path) -> str:
    """Makes a base image from Debian's packages, unless an earlier run has made it, and returns its name."""
    if DEBIAN not in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", container, str(folder), "/")
        buildah("commit", "--quiet", "--rm", container, DEBIAN)
    return DEBIAN


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Builds the image, and returns the folder with the image's files."""
    tools = ("buildah",) if BASE else ("buildah", "debootstrap")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        pytest.skip("needs root, buildah, and debootstrap or SVCDNS_TEST_BASE")
    base = BASE or debian(tmp_path_factory.mktemp("base"))
    buildah("bud", "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--build-arg", f"BASE={base}", "-t", IMAGE, ".")
    container = buildah("from", IMAGE).strip()
    try:
        yield Path(buildah("mount", container).strip())
    finally:
        buildah("rm", container)


def test_the_sbom_lists_each_package(files: Path) -> None:
    listed = json.loads((files / "app/sbom.cdx.json").read_text())
    (packages,) = (files / "app/lib").glob("python*/site-packages")
    installed = {
        (re.sub(r"[-_.]+", "-", name).lower(), version)
        for name, _, version in (one.stem.rpartition("-") for one in packages.glob("*.dist-info"))
    }
    found = {(re.sub(r"[-_.]+", "-", one["name"]).lower(), one["version"]) for one in listed["components"]}
    assert listed["bomFormat"] == "CycloneDX"
    assert listed["metadata"]["component"]["name"] == "svcdns"
    assert {name for name, _ in installed - found} == {"svcdns"}
    assert found <= installed


def test_the_image_has_no_build_tools(files: Path) -> None:
    assert not list((files / "app/lib").glob("python*/site-packages/pip"))
    assert not (files / "audit").exists()
    assert (files / "coredns").is_symlink()


class ImageBundle(Bundle):
    """A server in a container whose root is a folder with the files of the image."""

    root = Path()
    command_line = ("/coredns",)

    def files(self) -> tuple[Path, list[dict[str, Any]]]:
        """Adds the Corefile to the files of the image."""
        return self.root, [bound(str(self.corefile), "/etc/Corefile")]


@pytest.fixture(scope="module")
def container(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageBundle]:
    if reason := why_not_possible():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("bundle")
    folder.chmod(0o755)
    ImageBundle.root = files
    with ImageBundle(folder, COREFILE) as server:
        server.until_ready()
        yield server


def test_the_image_runs_with_the_least_rights(container: ImageBundle) -> None:
    """As the image's user, without new privileges, with the default seccomp profile, on a read-only root."""
    assert container.ask("example.org.") is not None
    assert len(container.processes()) >= 3
    for pid in container.processes():
        found = fields(pid)
        assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1")
        assert set(found["Uid"].split()) == {str(USER)}
        assert Path(f"/proc/{pid}/root").samefile(f"/proc/{container.first}/root")
    assert writable(container.first) <= {"/proc", "/dev/null", "/dev/full"}
    assert "Traceback" not in container.log


def test_the_image_starts_a_worker_again(container: ImageBundle) -> None:
    worker = next(pid for pid in container.processes() if b"svcdns.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(worker, signal.SIGKILL)
    until("the worker's end", lambda: not is_alive(worker))
    container.until_ready()
    assert container.ask("example.org.") is not None
