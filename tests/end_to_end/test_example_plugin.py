"""The example package: its own tests, and a real server in whose environment it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import dns.rcode
import pytest

from tests.support.server import Server

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "svcdns-tenant"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Creates an interpreter with svcdns and the example plugin installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    mine = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "svcdns.pth").write_text("\n".join([str(ROOT), *mine]) + "\n")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = packages / f"svcdns_tenant-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    shutil.copy(EXAMPLE / "svcdns_tenant.py", packages)
    return folder / "bin" / "python"


def test_the_examples_own_tests_pass(python: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        tmp_path,
        EXAMPLE / "tests",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_is_listed(python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [python, "-m", "svcdns", "-plugins"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "tenant" in done.stdout.splitlines()


@pytest.fixture
def server(python: Path, tmp_path: Path) -> Iterator[Server]:
    """Starts a server with the plugin. The client is not in the tenant's network."""

    class WithExample(Server):
        def command(self) -> list[str]:
            return [str(python), "-m", "svcdns"]

    with WithExample(
        tmp_path, ".:{port} {\n bind 127.0.0.1\n tenant example.org 10.0.0.0/8\n local\n whoami\n}\n"
    ) as started:
        started.until_serving()
        yield started


def test_a_server_uses_the_plugin(server: Server) -> None:
    """The server refuses names of the plugin's zone, and answers other names."""
    for _ in range(4):
        assert server.ask("www.example.org.").rcode() == dns.rcode.REFUSED
        assert server.ask("localhost.").rcode() == dns.rcode.NOERROR
