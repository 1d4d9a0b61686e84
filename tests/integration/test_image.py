"""The build of the container image. The tests need buildah, a network, and about a minute.

SVCDNS_TEST_BASE names the base image, which has Python 3.11 or newer with venv, and setcap or apt.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = "localhost/svcdns-test"
BASE: Final = os.environ.get("SVCDNS_TEST_BASE", "")
CERTIFICATES: Final = "/etc/ssl/certs"


def buildah(*arguments: str) -> str:
    environ = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    return subprocess.run(
        ["buildah", *arguments], check=True, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ).stdout


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """Builds the image, and returns the folder with the image's files."""
    if shutil.which("buildah") is None or not BASE:
        pytest.skip("needs buildah and SVCDNS_TEST_BASE")
    buildah("bud", "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--build-arg", f"BASE={BASE}", "-t", IMAGE, ".")
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
