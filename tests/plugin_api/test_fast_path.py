"""Which server blocks have a fast path, and what their plugins configure in it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.chain.build import build
from svcdns.chain.plan import plan
from svcdns.corefile.parser import parse
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.hooks import HookCaller
from svcdns.telemetry.counters import Counters
from tests.support import world

KEY = (b"\1a\1b\0", 1, 1, False, False)
ORDER = ("reload", "errors", "log", "cache", "loop", "forward")
Says = Callable[[FastPath], bool]


def keeps(fast_path: FastPath) -> bool:
    """Joins the fast path as a cache without entries."""
    fast_path.zones += (b"\1c\0",)
    fast_path.knows, fast_path.keep = lambda _: False, lambda _key, plain, *_: plain.ttl
    return True


def asks(fast_path: FastPath) -> bool:
    """Joins the fast path as a plugin that queries upstreams."""
    fast_path.zones += (b"\1f\0",)
    fast_path.ask = lambda _: None
    return True


def fast_path_of(text: str, **said: Says | None) -> FastPath | None:
    """Returns the fast path of a block with these directives, or None.

    `said` has the `join_fast_path` of plugins by name. A plugin with None in `said` does not have this hook.
    """
    says: dict[str, Says | None] = {
        "cache": keeps,
        "forward": asks,
        "loop": lambda _: True,
        "errors": lambda _: True,
        **said,
    }

    def load(name: str) -> Any:
        fields: dict[str, Any] = {"name": name, "configures_only": name == "reload"}
        mine = says.get(name)
        fields |= {"join_fast_path": lambda _self, fast_path: mine(fast_path)} if mine is not None else {}
        fields |= {"observe": lambda *_: None} if name == "log" else {}
        return SimpleNamespace(PLUGIN=type(name, (Plugin,), fields), parse=lambda _block: None)

    plans = plan(parse(f". {{\n{text}\n}}", "Corefile", environ={}), ORDER, load)
    chains = build(plans, [("",)], load, lambda *_: world.environment(), HookCaller(Counters()))
    return chains.listeners["", 53, "dns"].routes[b"\0"].fast_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", {}, id="no plugins"),
        pytest.param("cache", {}, id="nobody asks"),
        pytest.param("cache\nloop", {}, id="nobody asks, with more"),
        pytest.param("cache\nforward\nloop", {"loop": None}, id="one that says nothing"),
        pytest.param("cache\nforward\nloop", {"loop": lambda _: False}, id="one that says no"),
        pytest.param(
            "cache\nforward", {"cache": lambda fast_path: keeps(fast_path) and False}, id="the first one says no"
        ),
        pytest.param(
            "cache\nforward", {"forward": lambda fast_path: asks(fast_path) and False}, id="the last one says no"
        ),
        pytest.param("cache\nforward\nlog", {"log": lambda _: True}, id="one that wants to see all queries"),
    ],
)
def test_blocks_without_a_fast_path(text: str, said: dict[str, Says | None]) -> None:
    """All plugins of the block must join, and one must forward."""
    assert fast_path_of(text, **said) is None


@pytest.mark.parametrize("text", ["forward", "forward\ncache", "reload\nerrors\ncache\nforward\nloop"])
def test_blocks_with_a_fast_path(text: str) -> None:
    """Directives that only configure do not prevent a fast path."""
    fast_path = fast_path_of(text)
    assert fast_path is not None
    assert fast_path.ask is not None
    assert not fast_path.knows(KEY)


def test_outer_plugins_join_last() -> None:
    heard: list[tuple[bytes, ...]] = []

    def listens(fast_path: FastPath) -> bool:
        heard.append(fast_path.zones)
        return True

    fast_path = fast_path_of("errors\ncache\nloop\nforward", errors=listens, loop=listens)
    assert heard == [(b"\1f\0",), (b"\1f\0", b"\1c\0")]
    assert fast_path is not None
    assert fast_path.zones == (b"\1f\0", b"\1c\0")


def test_the_defaults_of_a_fast_path() -> None:
    """All names are accepted, nothing is stored or counted, and addresses are not shuffled."""
    fast_path = FastPath()
    assert not fast_path.knows(KEY)
    assert fast_path.increments("dns://:53") == ()
    assert (fast_path.ask, fast_path.keep, fast_path.zones, fast_path.shuffles, fast_path.is_shut) == (
        None,
        None,
        (),
        False,
        False,
    )
