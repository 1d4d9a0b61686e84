"""Which blocks have a short way, and what their plugins have said about it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.chain.build import build
from svcdns.chain.plan import plan
from svcdns.corefile.parser import parse
from svcdns.plugin_api.fast_path import Relay

KEY = (b"\1a\1b\0", 1, 1, False, False)
ORDER = ("reload", "errors", "log", "cache", "loop", "forward")
Says = Callable[[Relay], bool]


def keeps(relay: Relay) -> bool:
    """A cache that knows nothing."""
    relay.zones += (b"\1c\0",)
    relay.knows, relay.keep = lambda _: False, lambda _key, plain: plain.ttl
    return True


def asks(relay: Relay) -> bool:
    """One that asks."""
    relay.zones += (b"\1f\0",)
    relay.ask = lambda _: None
    return True


def relay_of(text: str, **said: Says | None) -> Relay | None:
    """The short way of a block with these directives. Plugins are named with what they say; those without it say nothing of it."""
    says: dict[str, Says | None] = {"cache": keeps, "forward": asks, "loop": lambda _: True, "errors": lambda _: True, **said}

    def load(name: str) -> Any:
        fields: dict[str, Any] = {"name": name, "handle": lambda query, following: following(query)}
        mine = says.get(name)
        fields |= {"relays": mine} if mine is not None else {}
        fields |= {"observe": lambda *_: None} if name == "log" else {}
        plugin = None if name == "reload" else lambda _options, _environment: SimpleNamespace(**fields)
        return SimpleNamespace(PLUGIN=plugin, parse=lambda _block: None)

    plans = plan(parse(f". {{\n{text}\n}}", "Corefile", environ={}), ORDER, load)
    return build(plans, [("",)], load, lambda *_: None).listeners["", 53].routes[b"\0"].relay  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", {}, id="no plugins"),
        pytest.param("forward", {}, id="nobody keeps"),
        pytest.param("cache", {}, id="nobody asks"),
        pytest.param("cache\nloop", {}, id="nobody asks, with more"),
        pytest.param("cache\nforward\nloop", {"loop": None}, id="one that says nothing"),
        pytest.param("cache\nforward\nloop", {"loop": lambda _: False}, id="one that says no"),
        pytest.param("cache\nforward", {"cache": lambda relay: keeps(relay) and False}, id="the first one says no"),
        pytest.param("cache\nforward", {"forward": lambda relay: asks(relay) and False}, id="the last one says no"),
        pytest.param("cache\nforward\nlog", {"log": lambda _: True}, id="one that wants to see all queries"),
    ],
)
def test_blocks_without_it(text: str, said: dict[str, Says | None]) -> None:
    """All have to take part, and one of them has to keep, one to ask."""
    assert relay_of(text, **said) is None


@pytest.mark.parametrize("text", ["forward\ncache", "reload\nerrors\ncache\nforward\nloop"])
def test_blocks_with_it(text: str) -> None:
    """Directives that make no handler have nothing to say."""
    relay = relay_of(text)
    assert relay is not None
    assert relay.ask is not None
    assert not relay.knows(KEY)


def test_whoever_is_further_out_speaks_last() -> None:
    """And finds what the others have said."""
    heard: list[tuple[bytes, ...]] = []

    def listens(relay: Relay) -> bool:
        heard.append(relay.zones)
        return True

    relay = relay_of("errors\ncache\nloop\nforward", errors=listens, loop=listens)
    assert heard == [(b"\1f\0",), (b"\1f\0", b"\1c\0")]
    assert relay is not None
    assert relay.zones == (b"\1f\0", b"\1c\0")


def test_what_nobody_has_said() -> None:
    """Every name is known, nothing is counted, nothing is shuffled."""
    relay = Relay()
    assert relay.knows(KEY)
    assert relay.counts("dns://:53") == ()
    assert (relay.ask, relay.keep, relay.zones, relay.shuffles, relay.is_shut) == (None, None, (), False, False)
