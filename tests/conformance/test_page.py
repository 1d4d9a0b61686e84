"""docs/conformance.md has every check, every group and every option."""

from __future__ import annotations

import re
from pathlib import Path

from svcdns.cli.conformance import parser
from svcdns.conformance.checks import CHECKS

PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()


def test_every_check_has_its_row() -> None:
    """The rows are in the order of `CHECKS`, with severity, rule and sentence."""
    rows = [f"| `{c.name}` | {c.severity.value} | {c.rule} | {c.explains} |" for c in CHECKS.values()]
    listed = PAGE.partition("## The checks")[2]
    assert [line for line in listed.splitlines() if line.startswith("| `")] == rows


def test_every_group_has_its_heading() -> None:
    """The heading has the argument of `--only`."""
    assert re.findall(r"^### .*`--only (\w+)`", PAGE, re.MULTILINE) == list(
        dict.fromkeys(c.group for c in CHECKS.values())
    )


def test_every_option_is_on_the_page() -> None:
    """The checks that the page lists for CoreDNS exist, too."""
    options = {word for action in parser()._actions for word in action.option_strings if word.startswith("--")} - {
        "--help"
    }
    assert {option for option in options if option not in PAGE} == set()
    listed_checks = re.findall(
        r"^\| `([\w@-]+)` \|",
        PAGE.partition("## What it says about CoreDNS")[2].partition("## The checks")[0],
        re.MULTILINE,
    )
    assert listed_checks
    assert set(listed_checks) <= set(CHECKS)
