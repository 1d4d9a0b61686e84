"""Wheel and sdist are installed with pip into fresh environments of every CPython that is here, and serve."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

import svcdns
from tests.support.checkout import Checkout
from tests.support.server import Server

ROOT: Final = Path(__file__).parents[2]
VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
INSTALL: Final = ("install", "--quiet", "--no-compile")
UNREACHED: Final = re.compile(
    r"Failed to establish a new connection|Temporary failure in name resolution|Network is unr"
)
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

COREFILE: Final = """
cluster.local:{port} {
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    kubernetes cluster.local {
        manifests CLUSTER
    }
    prometheus 127.0.0.1:{metrics}
    cache 30
}
"""


def interpreter(version: str) -> str | None:
    """Returns an interpreter of a version, from the path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))):
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(found)
    return None


def run(*command: str | Path) -> str:
    """Runs a command, and returns its output. Skips the test if a package registry cannot be reached."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if UNREACHED.search(done.stderr):
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(environment: Path, *arguments: str | Path) -> str:
    """Runs the pip of these tests for another environment."""
    return run(sys.executable, "-m", "pip", "--python", environment / "bin" / "python", *arguments)


class Installed(Server):
    """The command `svcdns` of an environment."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.environment = environment
        super().__init__(folder, COREFILE.replace("CLUSTER", str(ROOT / "zones" / "cluster.yaml")))

    def command(self) -> list[str]:
        return [str(self.environment / "bin" / "svcdns")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Builds wheel and sdist as the release does."""
    folder = tmp_path_factory.mktemp("built")
    checkout = Checkout(folder / "svcdns")
    checkout.run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"))
    files = sorted((folder / "dist").iterdir())
    assert [path.suffix for path in files] == [".whl", ".gz"]
    return files


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Makes an environment with the dependencies of requirements.lock for each version that is here, two at a time."""
    folder = tmp_path_factory.mktemp("environments")
    found = {version: python for version in VERSIONS if (python := interpreter(version))}

    def make(version: str) -> Path:
        environment = folder / version
        run(found[version], "-m", "venv", "--without-pip", environment)
        pip(environment, *INSTALL, "--require-hashes", "-r", ROOT / "requirements.lock")
        return environment

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(found, pool.map(make, found), strict=True))


def test_the_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={VERSIONS[0]}"
    assert f"python={json.dumps(VERSIONS)}" in (ROOT / "noxfile.py").read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_wheel_and_sdist_serve(version: str, built: list[Path], environments: dict[str, Path], tmp_path: Path) -> None:
    if version not in environments:
        pytest.skip(f"CPython {version} is not installed")
    environment = environments[version]
    for path in built:
        pip(environment, *INSTALL, "--no-deps", "--no-build-isolation", path)
        check_server(environment, tmp_path / path.name)
        if path == built[0]:
            assert "No broken requirements found" in pip(environment, "check")
        pip(environment, "uninstall", "--quiet", "--yes", "svcdns")
        assert not list(environment.rglob("svcdns*"))


def check_server(environment: Path, folder: Path) -> None:
    """Starts the installed command in an empty folder, and asserts its answers."""
    folder.mkdir()
    with Installed(folder, environment) as server:
        server.until_ready()
        assert server.records("kubernetes.default.svc.cluster.local.") == ["10.96.0.1"]
        assert server.records("kubernetes.default.svc.cluster.local.", tcp=True) == ["10.96.0.1"]
        assert server.records("no.default.svc.cluster.local.") == ["NXDOMAIN"]
        assert server.metric(rf'coredns_build_info{{.*version="{re.escape(svcdns.__version__)}"') == 1
        assert server.stop() == 0
