"""Helpers for plugin authors: changing a reply that is present or deferred, joining reuse terms, and checking plugin
classes.
"""

from __future__ import annotations

import re
from collections.abc import Generator

import msgspec
import pytest

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Plugin, check_names, check_plugin, overrides, steps, then
from svcdns.plugin_api.errors import ContractError
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, joined
from svcdns.plugin_api.settings import NO_SETTINGS
from svcdns.wire.codes import AA
from tests.support import world


def with_aa(reply: Reply) -> Reply:
    """Returns a copy of the reply with the AA flag."""
    return msgspec.structs.replace(reply, flags=AA)


async def test_then() -> None:
    """`then` applies a function to a reply immediately, and to a deferred reply when it arrives."""
    assert world.now(then(Reply(), with_aa)).flags == AA

    async def later() -> Reply:
        return Reply(rcode=3)

    assert await world.soon(then(later(), with_aa)) == Reply(rcode=3, flags=AA)


def test_joined() -> None:
    """The result has the shorter lifetime, all dependencies and increments, and the narrower scope."""
    one = Reply(lifetime=UNTIL_CHANGED, dependencies=(("a",), ("b",)), increments=((1, 1.0),))
    other = Reply(rcode=3, lifetime=5.0, dependencies=(("b",), ("c",)), increments=((2, 1.0),), scope=CacheScope.CLIENT)
    reply = joined(one, other)
    assert (reply.rcode, reply.lifetime, reply.dependencies) == (0, 5.0, (("a",), ("b",), ("c",)))
    assert (reply.scope, reply.increments) == (CacheScope.CLIENT, ((1, 1.0), (2, 1.0)))
    assert joined(one, Reply(extended=3)).extended == joined(Reply(extended=3), Reply(extended=4)).extended == 3


async def test_steps() -> None:
    """`steps` runs a generator, and waits for each deferred reply."""

    async def later() -> Reply:
        return Reply(rcode=3)

    def work(*answers: Answer) -> Generator[Answer, Reply, Reply]:
        total = 0
        for answer in answers:
            total += (yield answer).rcode
        return Reply(rcode=total)

    assert world.now(steps(work())) == Reply()
    assert world.now(steps(work(Reply(rcode=1), Reply(rcode=2)))) == Reply(rcode=3)
    assert await world.soon(steps(work(Reply(rcode=1), later(), Reply(rcode=2), later()))) == Reply(rcode=9)


def plugin_class(**fields: object) -> type[Plugin]:
    """Returns a plugin class with the attributes `fields`."""
    return type("Tenant", (Plugin,), {"name": "tenant", **fields})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("handel", "handle"),
        ("observed", "observe"),
        ("ticks", "tick"),
        ("on_ready", "ready"),
        ("client_classes", "client_class"),
        ("client_class_dependency", "client_class_dependencies"),
        ("echo_options", "echoed_options"),
        ("invalidated", "invalidate"),
        ("name_independant", "name_independent"),
        ("closest_enclosers", "closest_encloser"),
        ("join_fastpath", "join_fast_path"),
        ("transfers", "transfer"),
        ("shrinks", "shrink"),
        ("state_reuse", "states_reuse"),
    ],
)
def test_a_misspelt_hook_is_an_error(name: str, hint: str) -> None:
    expected = f"plugin/tenant: '{name}' is no hook of the plugin contract; did you mean '{hint}'?"
    with pytest.raises(ContractError, match=re.escape(expected)):
        check_plugin(plugin_class(**{name: lambda self: None}))
    with pytest.raises(ContractError, match=re.escape(expected)):
        check_names(plugin_class(), [name])


def test_other_public_names_are_listed() -> None:
    """A public name of a plugin class must be a hook, or be in `offers`, which lists it for other plugins."""
    with pytest.raises(
        ContractError, match="'network_of' is no hook of the plugin contract: begin the name with '_', or list it in"
    ):
        check_plugin(plugin_class(network_of=lambda self: None))
    check_plugin(plugin_class(network_of=lambda self: None, offers=("network_of",), _helper=1))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": ""}, "the plugin class Tenant has no name"),
        (
            {"handle": lambda self, query: None},
            "plugin/tenant: the hook 'handle' does not take (self, query, following)",
        ),
        (
            {"observe": lambda self, query, reply: None},
            "the hook 'observe' does not take (self, query, reply, size, seconds)",
        ),
        ({"tick": lambda self, now: None}, "the hook 'tick' does not take (self)"),
    ],
)
def test_a_class_that_does_not_keep_to_the_contract(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ContractError, match=re.escape(text)):
        check_plugin(plugin_class(**fields))


@pytest.mark.parametrize("found", [None, object(), type("Tenant", (), {"name": "tenant"})])
def test_a_plugin_is_a_subclass(found: object) -> None:
    with pytest.raises(ContractError, match="is no plugin"):
        check_plugin(found)


def test_hooks_do_nothing_by_default() -> None:
    plugin = plugin_class()(None, world.environment())
    assert plugin.handle(world.query("a."), world.following(Reply(rcode=3))) == Reply(rcode=3)
    assert (plugin.ready(), plugin.client_class("10.0.0.1"), plugin.transfer(b"\0", 0), list(plugin.shrink(0.5))) == (
        True,
        "",
        None,
        [],
    )
    assert (plugin.name_independent(b"\0"), plugin.closest_encloser(b"\0", 1), plugin.join_fast_path(FastPath())) == (
        False,
        None,
        False,
    )
    assert not plugin.join_cold_path(ColdPath())
    assert plugin.settings(None) == NO_SETTINGS
    assert overrides(plugin_class(tick=lambda self: None), "tick")
    assert not overrides(plugin, "tick")
