"""The lock files, the audit of their packages, and the list of packages in the image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools import audit

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_has_a_version_and_hashes(lock: Path) -> None:
    """pip installs no file whose hash is not listed."""
    text = re.sub(r"\\\n", " ", lock.read_text())
    packages = [line for line in text.splitlines() if line and not line.startswith((" ", "#", "\t"))]
    assert len(packages) > 10
    wrong = [
        line for line in packages if not re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+( ;.*?)?\s+--hash=sha256:", line)
    ]
    assert wrong == []


def test_everything_is_installed_by_its_hash() -> None:
    """The image and the Makefile install requirements only with --require-hashes, and svcdns without requirements."""
    extras = {f"requirements-{name}.lock" for name in ("azure", "clouddns", "route53")}
    assert {path.name for path in LOCKS} == {
        "requirements.lock", "requirements-dev.lock", "requirements-audit.lock", "requirements-docs.lock", *extras
    }  # fmt: skip
    for name in ("Dockerfile", "Makefile"):
        installs = [line for line in (ROOT / name).read_text().splitlines() if "pip install" in line]
        assert len(installs) >= 3
        assert all("--require-hashes -r " in line or "--no-deps --no-build-isolation" in line for line in installs)


def test_the_image_lists_its_packages() -> None:
    text = (ROOT / "Dockerfile").read_text()
    written = text.index("cyclonedx-py environment")
    assert "-o /app/sbom.cdx.json /app/bin/python" in text[written:].partition("\n")[0]
    assert written > text.rindex("pip uninstall")
    assert "cyclonedx-bom==" in (ROOT / "requirements-audit.lock").read_text()


GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3", "4"]}]}
SKIPPED = {"name": "lost", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "lines", "code"),
    [
        ([GOOD], ["audit: 1 packages were checked"], 0),
        ([GOOD, BAD], ["bad 2: CVE-1, mended in 3, 4", "audit: 2 packages were checked"], 1),
        ([GOOD, SKIPPED], ["audit: not in the database: lost", "audit: 1 packages were checked"], 0),
        ([SKIPPED], [audit.UNREACHABLE], 0),
    ],
    ids=["good", "bad", "one unknown", "all unknown"],
)
def test_the_report_of_an_audit(packages: list[dict[str, object]], lines: list[str], code: int) -> None:
    """A known vulnerability fails the audit. If no package can be checked, one line says so."""
    assert audit.report(json.dumps({"dependencies": packages})) == (lines, code)


def test_an_audit_without_output() -> None:
    assert audit.report("") == ([audit.UNREACHABLE], 0)
