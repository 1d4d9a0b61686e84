"""Options that are set by environment variables."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from svcdns.corefile.env_options import is_from_environment, variable, with_options
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse
from svcdns.plugins import BUILT

COREFILE = parse(
    "a {\n    kubernetes cluster.local {\n        snapshot /mine\n    }\n}\nb {\n    kubernetes\n    log\n}\n",
    "Corefile",
    environ={},
)
OPTIONS = {"kubernetes": ("snapshot", "stale_after"), "log": ()}


def bodies(**environ: str) -> list[list[tuple[str, ...]]]:
    """Returns the lines of each *kubernetes* directive, as words."""
    found = with_options(COREFILE, OPTIONS, environ)
    directives = [
        directive for block in found.blocks for directive in block.directives if directive.name.text == "kubernetes"
    ]
    return [
        [(line.name.text, *(word.text for word in line.arguments)) for line in directive.body or ()]
        for directive in directives
    ]


def test_a_variable_adds_a_missing_line() -> None:
    assert bodies(SVCDNS_SNAPSHOT='/var/lib "not_ready"', SVCDNS_STALE_AFTER="5m") == [
        [("snapshot", "/mine"), ("stale_after", "5m")],
        [("snapshot", "/var/lib", "not_ready"), ("stale_after", "5m")],
    ]


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="not set"),
        pytest.param({"SVCDNS_SNAPSHOT": " "}, id="empty"),
        pytest.param({"SVCDNS_TTL": "5"}, id="an option that CoreDNS has"),
        pytest.param({"SNAPSHOT": "/a"}, id="another name"),
    ],
)
def test_without_variables_the_corefile_is_unchanged(environ: dict[str, str]) -> None:
    assert with_options(COREFILE, OPTIONS, environ) is COREFILE


def test_errors_name_the_variable() -> None:
    with pytest.raises(CorefileError, match=r'^SVCDNS_SNAPSHOT:1:4 - .* closing " was expected'):
        bodies(SVCDNS_SNAPSHOT='/a "b')


def test_lines_of_variables_are_recognized() -> None:
    found = with_options(COREFILE, OPTIONS, {"SVCDNS_SNAPSHOT": "/a"})
    mine, theirs = (block.directives[0].body or () for block in found.blocks)
    assert not is_from_environment(mine[0])
    assert is_from_environment(theirs[0])
    assert variable("stale_after") == "SVCDNS_STALE_AFTER"


def test_docs_operating_has_every_variable() -> None:
    page = Path(__file__).parents[2] / "docs" / "operating.md"
    known = {
        variable(option)
        for module in BUILT.values()
        for option in getattr(importlib.import_module(module), "ENVIRONMENT", ())
    }
    assert set(re.findall(r"^\| `(SVCDNS_\w+)` \|", page.read_text(), re.MULTILINE)) == known | {
        "SVCDNS_ACCELERATOR",
        "SVCDNS_COOKIE_SECRETS",
        "SVCDNS_STATE",
    }
