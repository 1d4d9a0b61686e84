"""docs/supported.md names the plugins of svcdns and of CoreDNS, and a test for each difference."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from svcdns.plugins import BUILT, ORDER

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "supported.md").read_text()
COREDNS: Final = frozenset((ROOT / "tests/conformance/coredns/plugins.txt").read_text().split())
"""What `coredns -plugins` lists."""
NOT_YET: Final[frozenset[str]] = frozenset()
"""The plugins of CoreDNS that svcdns does not have yet. Remove a plugin that you add; the set must become empty."""
DIFFERENCES: Final = [
    line
    for line in PAGE.partition("## Deliberate differences")[2].splitlines()
    if line.startswith("| ") and not line.startswith("| Subject ")
]
TEST: Final = re.compile(r"<!-- (tests/\S+\.py::.+?) --> \|$")


def test_the_plugin_table_agrees_with_the_code() -> None:
    """The page lists each plugin of svcdns and of CoreDNS once. svcdns has all plugins of CoreDNS but `NOT_YET`."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.partition("## Deliberate differences")[0], re.MULTILINE)
    support = {name: text for names, text in rows if names not in ("Plugin", "---") for name in names.split(", ")}
    assert sum(len(names.split(", ")) for names, _ in rows if names not in ("Plugin", "---")) == len(support)
    has = {name for name, text in support.items() if text != "not yet"}
    assert has == set(BUILT) | {"import"}
    assert set(support) == set(BUILT) | {"import"} | COREDNS
    assert COREDNS - set(BUILT) == NOT_YET
    assert set(ORDER) >= COREDNS, "a directive that svcdns does not have gets an error that says so"


def test_every_difference_names_a_test() -> None:
    """Each row of the table ends with a comment that names a test."""
    assert len(DIFFERENCES) > 50
    assert [line for line in DIFFERENCES if not TEST.search(line)] == [], (
        "a row ends with a test that shows the difference: <!-- tests/plugins/log/test_handler.py::test_name --> |"
    )


@pytest.mark.slow
def test_the_named_tests_are_collected() -> None:
    """A row may also name the id of a parameter."""
    named = {found[1] for line in DIFFERENCES if (found := TEST.search(line))}
    files = sorted({name.partition("::")[0] for name in named})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    collected = {line for line in done.stdout.splitlines() if "::" in line}
    assert done.returncode == 0, done.stdout[-500:]
    assert named - collected - {line.partition("[")[0] for line in collected} == set()
