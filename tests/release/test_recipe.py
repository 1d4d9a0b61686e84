"""`make release` in a copy of the repository, as far as the upload (docs/releasing.md)."""

from __future__ import annotations

import hashlib
import itertools
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.support.checkout import Checkout
from tools import release

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "svcdns")


def test_the_recipe_up_to_the_upload(checkout: Checkout, tmp_path: Path) -> None:
    """The recipe sets the version and the changelog, commits, tags, and builds the files. The wheel can be installed,
    and prints its version.
    """
    (checkout.root / "changes" / "123.fixed.md").write_text("A name with a dot is found.\n")
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message=fix")

    done = checkout.release("7.8.9")
    assert done.returncode == 0, done.stderr

    assert checkout.git("describe", "--exact-match", "HEAD") == "v7.8.9"
    assert checkout.git("log", "-1", "--format=%s") == "release: 7.8.9"
    assert checkout.git("status", "--porcelain") == ""
    assert release.read_version(checkout.root) == "7.8.9"
    changelog = (checkout.root / "CHANGELOG.md").read_text()
    assert re.search(r"^## 7\.8\.9 - 2026-01-02\n\n### ", changelog, re.MULTILINE)
    assert "\n- A name with a dot is found. (#123)\n" in changelog
    assert {path.name for path in (checkout.root / "changes").iterdir()} == {"README.md", "template.md.jinja"}

    wheel, sdist, chart, sums = (checkout.root / "dist" / "7.8.9" / name for name in release.file_names("7.8.9"))
    assert sums.read_text() == "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (wheel, sdist, chart)
    )
    check_chart(chart)
    with tarfile.open(sdist) as archive:
        assert "svcdns-7.8.9/LICENSE" in archive.getnames()
        assert "svcdns-7.8.9/svcdns/accelerator/answers.bpf.c" in archive.getnames()
    with zipfile.ZipFile(wheel) as archive_of_wheel:
        kernel_files = [name for name in archive_of_wheel.namelist() if ".bpf." in name]
        metadata = archive_of_wheel.read("svcdns-7.8.9.dist-info/METADATA").decode()
    assert kernel_files == ["svcdns/accelerator/answers.bpf.o"]
    assert "concepts, glossary" in metadata
    assert not re.search(r"\]\((?!https:)", metadata)
    installed = tmp_path / "installed"
    checkout.run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(installed),
        str(wheel),
    )
    assert (installed / "svcdns" / "py.typed").exists()
    command = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import svcdns; print(svcdns.__version__, svcdns.__file__)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"7.8.9 {installed}/svcdns/__init__.py\n"
    check_demo(installed, tmp_path / "empty")


def check_chart(path: Path) -> None:
    """Asserts that a chart has the version of the release, and no file that depends on the machine of the build."""
    with tarfile.open(path) as archive:
        [name] = [name for name in archive.getnames() if name.endswith("/Chart.yaml")]
        about = archive.extractfile(name)
        assert about is not None
        described = yaml.safe_load(about)
        assert (described["version"], described["appVersion"]) == ("7.8.9", "7.8.9")
        entries = archive.getmembers()
    assert {(entry.uid, entry.uname, entry.mode) for entry in entries} == {(0, "", 0o644)}
    assert len({entry.mtime for entry in entries}) == 1


def check_demo(installed: Path, empty: Path) -> None:
    """Runs the installed `svcdns demo` in an empty folder. Asserts that it prints names of the example cluster."""
    empty.mkdir()
    script = installed / "svcdns" / "process" / "isolated.py"
    command = [sys.executable, "-I", "-S", str(script), "svcdns", "demo"]
    with subprocess.Popen(command, cwd=empty, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        shown = list(itertools.takewhile(lambda line: "Ctrl-C ends it" not in line, demo.stdout))
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    assert any(line.startswith("  db-0.db.default.svc.cluster.local. 30 IN A ") for line in shown), shown
    assert list(empty.iterdir()) == []


def test_the_make_targets_of_the_page_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", RECIPE, re.MULTILINE))
    assert {"check", "release", "image-multiarch", "site"} <= named <= targets


def test_a_version_is_released_once(checkout: Checkout) -> None:
    """The recipe refuses a version that has a tag, is older than the current one, or is invalid."""
    current = release.read_version(checkout.root)
    checkout.git("tag", f"v{current}")
    for version, message in (
        (current, f"tag v{current} exists"),
        ("0.0.1", f"version 0.0.1 is older than {current} in svcdns/__init__.py"),
        ("1.0", "version '1.0': expected X.Y.Z or X.Y.ZrcN"),
        ("next", "'next' is no version"),
    ):
        with pytest.raises(release.ReleaseError) as caught:
            release.check(checkout.root, version)
        assert str(caught.value) == message
    assert checkout.git("status", "--porcelain") == ""


def test_a_release_needs_a_clean_checkout_with_fragments(checkout: Checkout) -> None:
    """A file that is not committed, or a missing fragment, ends the recipe before it writes."""
    extra = checkout.root / "extra.txt"
    extra.write_text("")
    with pytest.raises(release.ReleaseError, match=r"not committed:\n\?\? extra\.txt"):
        release.check(checkout.root, "7.8.9")
    extra.unlink()
    checkout.git("rm", "--quiet", "--ignore-unmatch", "changes/*.*.md")
    checkout.git("commit", "--quiet", "--allow-empty", "--message=none")
    with pytest.raises(release.ReleaseError, match="nothing to release"):
        release.check(checkout.root, "7.8.9")


def test_the_makefile_says_why_a_release_is_refused(checkout: Checkout) -> None:
    (checkout.root / "README.md").write_text("changed\n")
    done = checkout.release("7.8.9")
    assert done.returncode != 0
    assert "release: the checkout has changes that are not committed" in done.stderr
    assert checkout.git("tag") == ""
