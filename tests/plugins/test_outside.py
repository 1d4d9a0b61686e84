"""Plugins of other distributions: entry points, position in the order, and errors."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from svcdns import plugins
from svcdns.plugin_api import ContractError, Plugin
from svcdns.plugins import BUILT, ORDER, known, load, outside, placed


def module(**fields: Any) -> ModuleType:
    """Returns the module of an external plugin."""
    made = ModuleType("outside_tenant")
    made.PLUGIN = type("Tenant", (Plugin,), {"name": "tenant", "before": "cache", **fields})  # type: ignore[attr-defined]
    made.parse = lambda _block: None  # type: ignore[attr-defined]
    return made


class Installed:
    """The installed entry points. The test sets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replaces the installed entry points with an empty list."""
        self._monkeypatch = monkeypatch
        self.points: list[importlib.metadata.EntryPoint] = []
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda **fields: [p for p in self.points if p.matches(**fields)]
        )

    def add(self, name: str, found: ModuleType | None = None, group: str = plugins.GROUP) -> None:
        """Adds an entry point for a plugin. If `found` is None, the plugin's module is missing."""
        path = f"outside_{name}_{len(self.points)}"
        self.points.append(importlib.metadata.EntryPoint(name, path, group))
        if found is not None:
            self._monkeypatch.setitem(sys.modules, path, found)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """Yields the installed entry points. The caches of installed plugins are cleared before and after the test."""
    for found in (outside, plugins._outside_module):
        found.cache_clear()
    yield Installed(monkeypatch)
    for found in (outside, plugins._outside_module):
        found.cache_clear()


def test_an_external_plugin_is_placed_before_the_plugin_it_names(installed: Installed) -> None:
    """External plugins are searched for only if a directive is unknown."""
    installed.add("tenant", module())
    assert known({"cache", "errors"}) == (ORDER, frozenset(BUILT))
    order, available = known({"tenant", "cache"})
    assert order[order.index("tenant") + 1] == "cache"
    assert tuple(name for name in order if name != "tenant") == ORDER
    assert available == {*BUILT, "tenant"}
    assert load("tenant").PLUGIN.name == "tenant"


def test_a_directive_that_is_not_built_yet_keeps_its_place(installed: Installed) -> None:
    """The external plugin gets the position that CoreDNS has for the directive."""
    installed.add("geoip", module(name="geoip", before=""))
    order, available = known({"geoip"})
    assert order == ORDER
    assert "geoip" in available


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("tenant", {"before": ""}, "plugin/tenant: it states no place: set 'before'"),
        (
            "tenant",
            {"before": "cach"},
            "plugin/tenant: it is to stand before 'cach', which is no other directive; did you mean 'cache'?",
        ),
        (
            "other",
            {},
            "the plugin 'other' of an unknown distribution is named 'tenant' in its class; both must be the directive",
        ),
        ("tenant", {"handel": 1}, "plugin/tenant: 'handel' is no hook of the plugin contract; did you mean 'handle'?"),
    ],
)
def test_a_plugin_that_cannot_be_used(name: str, fields: dict[str, Any], text: str, installed: Installed) -> None:
    installed.add(name, module(**fields))
    with pytest.raises(ContractError) as raised:
        known({name})
    assert str(raised.value) == text


@pytest.mark.parametrize("group", ["svcdns.plugin", "svcdns_plugins", "Svcdns.Plugins"])
def test_a_misspelt_group_of_entry_points(group: str, installed: Installed) -> None:
    installed.add("tenant", module(), group)
    with pytest.raises(ContractError) as raised:
        known({"tenant"})
    assert str(raised.value) == (
        f"the plugin 'tenant' of an unknown distribution is in the group of entry points '{group}'; "
        "'svcdns.plugins' was expected"
    )


def test_another_program_may_have_a_plugin_of_that_name(installed: Installed) -> None:
    """An entry point of the same name in an unrelated group is ignored."""
    installed.add("tenant", module(), "pytest11")
    assert "tenant" not in known({"tenant"})[1]


def test_conflicts(installed: Installed) -> None:
    """A plugin must not have the name of a built-in plugin, or of another installed plugin."""
    installed.add("tenant", module())
    installed.add("tenant", module())
    with pytest.raises(ContractError, match="two distributions have a plugin 'tenant'"):
        known({"tenant"})
    installed.points[:] = []
    installed.add("cache", module())
    with pytest.raises(
        ContractError, match="the plugin 'cache' of an unknown distribution has the name of a plugin of svcdns"
    ):
        known({"tenant"})


def test_a_module_without_a_plugin_is_an_error(installed: Installed) -> None:
    installed.add("tenant")
    with pytest.raises(
        ContractError, match="the plugin 'tenant' of an unknown distribution cannot be imported: ModuleNotFoundError"
    ):
        load("tenant")
    installed.add("empty", ModuleType("empty"))
    outside.cache_clear()
    with pytest.raises(
        ContractError, match=r"the module outside_empty_1 was expected to have PLUGIN and parse\(block\)"
    ):
        load("empty")
    with pytest.raises(ContractError, match="there is no plugin 'nobody'"):
        load("nobody")


def test_external_plugins_that_name_each_other() -> None:
    """A plugin may name another external plugin as its successor. A circle is an error."""
    assert placed(("a", "b"), {"y": "x", "x": "b", "z": "b"}) == ("a", "y", "x", "z", "b")
    with pytest.raises(ContractError, match="plugin/x: it is to stand before 'y', which is no other directive"):
        placed(("a",), {"x": "y", "y": "x"})
