"""Runs every block of docs/writing-a-plugin.md. The plugins on the page must pass the contract check."""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from svcdns import plugin_api
from svcdns.corefile.load import load
from svcdns.plugin_api import CorefileError, Directive, Query, Record, Reply
from svcdns.plugin_api.contract import HOOKS, check_plugin
from svcdns.plugins import ORDER
from svcdns.serving.metrics import TABLE_HITS
from svcdns.testing import check_contract

PAGE = (Path(__file__).parents[2] / "docs" / "writing-a-plugin.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MODULES = {text.partition(".py\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "python"}
"""The blocks of Python on the page, by the name of their module."""
QUERIES = [("www.example.org.", "A"), ("www.example.org.", "TXT"), ("WWW.example.org.", "A"), ("www.example.com.", "A")]


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """Removes the modules of the page from `sys.modules` after a test."""
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def module(name: str) -> ModuleType:
    """Runs a block of the page, and returns it as a module."""
    made = sys.modules[name] = ModuleType(name)
    exec(compile(MODULES[name], name, "exec"), made.__dict__)
    return made


def test_the_function_of_the_page_reads_options_in_braces(tmp_path: Path) -> None:
    """The function refuses unknown options."""
    file = tmp_path / "Corefile"
    limits = module("options_in_braces").limits

    def directive(option: str) -> Directive:
        file.write_text(f"example.org {{\n    bounds {{\n        lowest 5\n        {option} 60\n    }}\n}}\n")
        return load(str(file), environ={}).blocks[0].directives[0]

    assert limits(directive("highest")) == {"lowest": 5, "highest": 60}
    with pytest.raises(CorefileError, match=r"Corefile:4:9 .*'higest'.*highest"):
        limits(directive("higest"))


@pytest.mark.parametrize("cached", ["", "\ncache 30"])
@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("svcdns_site", "site www.example.org 10.0.0.0/8 192.0.2.10 192.0.2.20"),
        ("svcdns_minttl", "minttl 45"),
        ("svcdns_minttl", "minttl 5"),
        ("svcdns_texts", "texts {file}"),
    ],
)
def test_a_plugin_of_the_page_keeps_to_the_contract(name: str, block: str, cached: str, tmp_path: Path) -> None:
    """The plugin is checked without *cache* and before *cache*."""
    file = tmp_path / "file"
    file.write_text("www.example.org one\n")
    made = module(name)
    check_plugin(made.PLUGIN)

    def change() -> None:
        file.write_text("www.example.org two\n# comment\nwww.example.com three\n")

    assert check_contract(made, block.replace("{file}", str(file)) + cached, QUERIES, changes=(change,)) > 0


def test_the_test_of_the_page(tmp_path: Path) -> None:
    """The page's test passes for the page's plugin."""
    module("svcdns_texts")
    made = module("test_svcdns_texts")
    made.test_it_keeps_to_the_plugin_contract(tmp_path)


def test_every_block_of_the_page_is_run() -> None:
    """The page has three plugins, a test, and the `pyproject.toml` of one plugin."""
    assert set(MODULES) == {"svcdns_site", "options_in_braces", "svcdns_minttl", "svcdns_texts", "test_svcdns_texts"}
    assert [kind for kind, _ in BLOCKS] == ["python"] * len(MODULES) + ["toml"]
    project = tomllib.loads(BLOCKS[-1][1])
    ((directive, name),) = project["project"]["entry-points"]["svcdns.plugins"].items()
    assert module(name).PLUGIN.name == directive
    assert project["tool"]["setuptools"]["py-modules"] == [name]


@pytest.mark.parametrize("kind", [Query, Reply, Record])
def test_the_fields_on_the_page(kind: type) -> None:
    """The fields in the tables exist, and the table of records is complete."""
    table = PAGE.split(f"| `{kind.__name__}` | Type | Meaning |\n")[1].split("\n\n")[0]
    first = [row.split("|")[1] for row in table.splitlines()]
    fields = [field.partition(".")[0] for field in re.findall(r"`([\w.]+)`", " ".join(first))]
    assert fields
    known = {name for name, _ in inspect.getmembers(kind)} | set(inspect.signature(kind).parameters)
    assert set(fields) <= known
    if kind is Record:
        assert set(fields) == set(Record.__struct_fields__)


def test_the_names_on_the_page() -> None:
    """The directives are in chain order. The metric, the hooks and the imports exist."""
    order = re.search(r"its middle part is: (.*?)\.\n", PAGE, re.DOTALL)
    assert order is not None
    named = re.findall(r"\*(\w+)\*", order[1])
    assert named == sorted(named, key=ORDER.index)
    assert f"`{TABLE_HITS.name}`" in PAGE
    hooks = PAGE.split("| Hook | Purpose |\n|---|---|\n")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in hooks.splitlines()))) <= HOOKS
    for text in MODULES.values():
        for names in re.findall(r"from svcdns\.plugin_api import (\([^)]*\)|[^\n]*)", text):
            assert set(re.findall(r"\w+", names)) <= set(plugin_api.__all__)
