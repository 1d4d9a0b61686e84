"""The files of the image: what `tools/image.py` leaves out and compiles. tests/integration/test_image.py builds one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import image

PROGRAM = image.PROGRAM


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Returns a folder with installed packages."""
    for name, text in {
        "kubernetes/client/__init__.py": "",
        "kubernetes/client/configuration.py": "",
        "kubernetes/client/models/__init__.py": "",
        "kubernetes/client/models/v1_pod.py": "",
        "kubernetes/aio/client/api/core_v1_api.py": "",
        "kubernetes/aio/config/kube_config_test.py": "",
        "other/__init__.py": "NUMBER = 1 / 0\n",
        "other/types.pyi": "",
        "other/tests/part.py": "",
        f"{PROGRAM}/__init__.py": "VALUE = 1\n",
        f"{PROGRAM}/tests/kept.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_files_that_never_run_are_removed(packages: Path) -> None:
    """All files of svcdns stay."""
    image.remove(packages, image.UNUSED_PACKAGES)
    assert names(packages) == {
        "kubernetes/client/__init__.py", "kubernetes/client/configuration.py", "kubernetes/client/models/__init__.py",
        "other/__init__.py", f"{PROGRAM}/__init__.py", f"{PROGRAM}/tests/kept.py",
    }  # fmt: skip


def test_bytecode_takes_the_place_of_sources(packages: Path) -> None:
    """svcdns keeps its sources. A traceback of another package has the file and the line."""
    image.remove(packages, image.UNUSED_PACKAGES)
    image.compile_all(packages)
    image.remove_sources(packages)
    tag = sys.implementation.cache_tag
    assert {name for name in names(packages) if not name.startswith("kubernetes")} == {
        "other/__init__.pyc",
        f"{PROGRAM}/__init__.py",
        f"{PROGRAM}/__pycache__/__init__.{tag}.pyc",
        f"{PROGRAM}/tests/kept.py",
        f"{PROGRAM}/tests/__pycache__/kept.{tag}.pyc",
    }
    program = f"import sys; sys.path.insert(0, {str(packages)!r}); import other"
    shown = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert f'File "{packages}/other/__init__.py", line 1' in shown.stderr


def test_bytecode_does_not_depend_on_the_time_of_its_source(packages: Path) -> None:
    image.compile_all(packages / PROGRAM)
    (compiled,) = (packages / PROGRAM / "__pycache__").iterdir()
    flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
    assert flags == 1  # PEP 552: the pyc is based on a hash, and the interpreter does not check it


def test_the_bill_names_debian_packages_by_their_package_urls(tmp_path: Path) -> None:
    status = tmp_path / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    fields = (
        "Package: zlib1g\nVersion: 1:1.2.13.dfsg-1+b1\nArchitecture: arm64\nDescription: a library\n Homepage: no\n"
    )
    (status / "zlib1g").write_text(fields)
    image.write_bill(tmp_path)
    (found,) = json.loads((tmp_path / "var/lib/dpkg/sbom.cdx.json").read_text())["components"]
    assert (found["name"], found["version"]) == ("zlib1g", "1:1.2.13.dfsg-1+b1")
    assert found["purl"] == "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1%2Bb1?arch=arm64"
