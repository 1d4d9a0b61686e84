"""docs/security.md: each rule of its tables names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = (ROOT / "docs" / "security.md").read_text().partition("\n## Tests\n")[2]
TABLES = re.findall(r"^\| Rule \| Test \|\n\|---\|---\|\n((?:\|.*\n)+)", TESTS, re.MULTILINE)
ROWS = [row for table in TABLES for row in table.splitlines()]


def test_each_rule_names_a_test_that_exists() -> None:
    """The last cell of each row names files of tests, or single tests in them."""
    assert len(ROWS) > 30
    for row in ROWS:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row.rstrip("| ").rpartition(" | ")[2])
        assert named, row
        for file, test in named:
            text = (ROOT / file).read_text()
            assert re.search(rf"def {test or 'test_'}", text), row
