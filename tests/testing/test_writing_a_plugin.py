"""The example plugins of docs/writing-a-plugin.md pass the contract check unchanged."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from svcdns.plugin_api.contract import check_plugin
from svcdns.testing import check_contract

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-plugin.md"
EXAMPLE = Path(__file__).parents[2] / "examples" / "svcdns-tenant" / "svcdns_tenant.py"


def modules() -> dict[str, str]:
    """Returns the example modules of the page, by name."""
    return dict(re.findall(r"^```python\n# (svcdns_\w+)\.py\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def module(name: str) -> ModuleType:
    """Returns an example module of the page, executed."""
    made = ModuleType(name)
    sys.modules[name] = made  # dataclasses look there
    try:
        exec(compile(modules()[name], name, "exec"), made.__dict__)
    finally:
        del sys.modules[name]
    return made


QUERIES = [("www.example.org.", "A"), ("www.example.org.", "TXT"), ("www.example.com.", "A")]


@pytest.mark.parametrize("cached", ["", "\ncache 30"])
@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("svcdns_tenant", "tenant example.org 10.0.0.0/8"),
        ("svcdns_minttl", "minttl 45"),
        ("svcdns_motd", "motd www.example.org {file}"),
    ],
)
def test_a_plugin_of_the_page_keeps_to_the_contract(name: str, block: str, cached: str, tmp_path: Path) -> None:
    """The example plugins of the page pass the contract check, alone and before *cache*."""
    file = tmp_path / "file"
    file.write_text("one\n")
    made = module(name)
    check_plugin(made.PLUGIN)

    def change() -> None:
        file.write_text("two\n")

    assert check_contract(made, block.replace("{file}", str(file)) + cached, QUERIES, changes=(change,)) > 0


def test_the_page_has_these_plugins() -> None:
    """The page has exactly these plugins, and the first one is also in the example package."""
    assert set(modules()) == {"svcdns_tenant", "svcdns_minttl", "svcdns_motd"}
    assert 'name = "tenant"' in EXAMPLE.read_text()
