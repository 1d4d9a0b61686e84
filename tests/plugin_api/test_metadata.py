"""Metadata of queries, and what reading them means for the reuse of replies."""

from __future__ import annotations

from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.metadata import Metadata
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply
from tests.support import world


class Reads(Plugin):
    """A plugin that reads metadata."""

    name = "reads"

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers NXDOMAIN if there is metadata."""
        found = query.metadata("a/b")
        return Reply(rcode=3 if found else 0, lifetime=UNTIL_CHANGED)


def ask(collected: Metadata | None) -> Reply:
    """Returns the reply of the plugin to a query with these metadata."""
    query = world.query("x.")
    query.collected = collected
    return world.now(world.handled(Reads(None, world.environment()), query, world.following()))


def test_values_come_from_the_plugin_that_the_label_names() -> None:
    """The provider gets the query and the whole label. Labels of other plugins are empty."""
    metadata = Metadata({"a": lambda query, label: f"{label} {query.size}"}, world.query("x.", size=7))
    assert [metadata.value(label) for label in ("a/b", "a", "b/c", "")] == ["a/b 7", "a 7", "", ""]
    assert metadata.of(world.query("x.", size=8)).value("a/b") == "a/b 8"


def test_a_reply_made_from_metadata_is_for_its_client() -> None:
    """Also if the value is empty. Without metadata, the reply is for everyone."""
    query = world.query("x.")
    assert ask(Metadata({"a": lambda _query, _label: "v"}, query)).scope is CacheScope.CLIENT
    assert ask(Metadata({}, query)).scope is CacheScope.CLIENT
    assert ask(None).scope is CacheScope.SHARED
