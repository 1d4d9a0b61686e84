"""How a plugin's reads become reuse terms of its reply. In tests/chain/test_link.py, whole plugins read."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugin_api.reuse import CORE, OUTSIDE, Invocation, PluginContext, carried, running
from tests.support import world


def test_reads_outside_of_any_query_are_ignored() -> None:
    before = running.outside
    world.query("a.").client  # noqa: B018 - reading is what is tested
    assert (running.current, running.outside) == (OUTSIDE, before + 1)


def test_a_reply_that_came_later_may_depend_on_what_a_task_read() -> None:
    """If a task outside any plugin has read client data before the reply arrives, the reply counts as dependent on the
    client.
    """
    invocation = Invocation(PluginContext("tenant", CacheScope.CLIENT))
    assert invocation.apply_later(Reply()).scope is CacheScope.SHARED
    running.outside += 1
    assert invocation.apply(Reply()).scope is CacheScope.SHARED
    assert invocation.apply_later(Reply()).scope is CacheScope.CLIENT


def test_declared_scopes_are_kept() -> None:
    for context in (CORE, PluginContext("acl", CacheScope.CLIENT_CLASS, states_reuse=True)):
        invocation = Invocation(context)
        invocation.read(CacheScope.CLIENT)
        context.read(CacheScope.CLIENT)
        assert invocation.apply(Reply()).scope is CacheScope.SHARED


@pytest.mark.parametrize(
    ("reply", "terms"),
    [
        pytest.param(Reply(lifetime=UNTIL_CHANGED), (9.0, (("a",),), CacheScope.CLIENT_CLASS), id="nothing carried"),
        pytest.param(Reply(lifetime=3.0, scope=CacheScope.CLIENT), (3.0, (("a",),), CacheScope.CLIENT), id="narrower"),
        pytest.param(
            Reply(lifetime=3.0, dependencies=(("b",), ("a",))),
            (3.0, (("b",), ("a",)), CacheScope.CLIENT_CLASS),
            id="more",
        ),
    ],
)
def test_a_reply_has_at_least_the_terms_of_its_source(reply: Reply, terms: tuple[object, ...]) -> None:
    """`joined` returns a reply with the shorter lifetime, all dependencies and the narrower scope."""
    source = Reply(lifetime=9.0, dependencies=(("a",),), scope=CacheScope.CLIENT_CLASS)
    found = carried(reply, source)
    assert (found.lifetime, found.dependencies, found.scope) == terms
