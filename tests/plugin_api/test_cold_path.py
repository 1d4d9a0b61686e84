"""Which server blocks have a cold path."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.chain.build import build
from svcdns.chain.plan import plan
from svcdns.corefile.parser import parse
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.hooks import HookCaller
from svcdns.telemetry.counters import Counters
from tests.support import world

ORDER = ("errors", "log", "cache", "kubernetes", "loop", "forward")
Joins = Callable[[ColdPath], bool]


def answers(cold_path: ColdPath) -> bool:
    """Joins the cold path as a plugin with cluster data."""
    cold_path.source, cold_path.zones = SimpleNamespace(), (b"\1c\0", b"\1d\0")
    return True


def excludes(cold_path: ColdPath) -> bool:
    """Joins the cold path of all zones except one."""
    cold_path.zones = tuple(zone for zone in cold_path.zones if zone != b"\1d\0")
    return True


def cold_path_of(text: str, **joins: Joins) -> ColdPath | None:
    """Returns the cold path of a block with these directives.

    `joins` has the hook `join_cold_path` of plugins by name. A plugin that is not in `joins` does not have the hook.
    """

    def load(name: str) -> Any:
        fields: dict[str, Any] = {"name": name}
        mine = joins.get(name)
        if mine is not None:
            fields["join_cold_path"] = lambda _self, cold_path: mine(cold_path)
        if name == "log":
            fields["observe"] = lambda *_: None
        return SimpleNamespace(PLUGIN=type(name, (Plugin,), fields), parse=lambda _block: None)

    plans = plan(parse(f". {{\n{text}\n}}", "Corefile", environ={}), ORDER, load)
    chains = build(plans, [("",)], load, lambda *_: world.environment(), HookCaller(Counters()))
    return chains.listeners["", 53, "dns"].routes[b"\0"].cold_path


@pytest.mark.parametrize(
    ("text", "joins"),
    [
        pytest.param("cache", {"cache": lambda _: True}, id="no plugin answers"),
        pytest.param("cache\nkubernetes", {"kubernetes": answers}, id="a plugin before it does not take part"),
        pytest.param("cache\nkubernetes", {"kubernetes": answers, "cache": lambda _: False}, id="a plugin refuses"),
        pytest.param("log\nkubernetes", {"kubernetes": answers, "log": lambda _: True}, id="a plugin observes"),
    ],
)
def test_blocks_without_a_cold_path(text: str, joins: dict[str, Joins]) -> None:
    """All plugins before the answering plugin must join, and must not observe queries."""
    assert cold_path_of(text, **joins) is None


def test_plugins_after_the_answering_plugin_do_not_matter() -> None:
    """Queries on the cold path never reach these plugins."""
    found = cold_path_of("errors\nkubernetes\nloop\nforward", kubernetes=answers, errors=excludes)
    assert found is not None
    assert found.zones == (b"\1c\0",)
