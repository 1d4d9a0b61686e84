"""The TXT records of ACME challenges."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.tls.acme.data import encode_challenges
from svcdns.plugins.tls.handler import Tls
from svcdns.plugins.tls.options import Acme, Options
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from tests.support import world

FIRST, SECOND = Acme(("*.a.example", "a.example")), Acme(("b.example",))


class Chain:
    """The plugin with the challenges of two certificates, and a next plugin that replies NXDOMAIN."""

    def __init__(self) -> None:
        """No challenge is in progress."""
        self.calls: dict[str, Any] = {}
        environment = world.environment(
            on_data=lambda _plugin, key, call: self.calls.update({key: call}),
        )
        position = world.block("tls c k", "tls").directives[0].position
        self.plugin = Tls(Options(position, managed=(FIRST, SECOND)), environment)

    def present(self, acme: Acme, **values: list[str]) -> None:
        """Begins challenges. An underscore in a name of `values` stands for a dot."""
        named = {name.replace("_", "."): found for name, found in values.items()}
        self.calls[acme.challenges_key](encode_challenges(named))

    def ask(self, name: str, rtype: str = "TXT", **fields: Any) -> Reply:
        """Returns the reply to a query."""

        def following(_query: Query) -> Answer:
            return Reply(Rcode.NXDOMAIN)

        found = self.plugin.handle(world.query(name, rtype, **fields), following)
        assert isinstance(found, Reply)
        return found


def test_the_records_of_challenges_in_progress() -> None:
    """A domain and its wildcard share a name. The owner keeps the spelling of the query. The TTL is 0."""
    chain = Chain()
    chain.present(FIRST, a_example=["one", "two", "one"])
    reply = chain.ask("_ACME-challenge.A.example.")
    lines = ['_ACME-challenge.A.example. 0 IN TXT "one"', '_ACME-challenge.A.example. 0 IN TXT "two"']
    assert (world.shown(reply.answer), reply.flags & AA) == (lines, AA)
    chain.present(SECOND, b_example=["three"])
    assert world.shown(chain.ask("_acme-challenge.b.example.").answer) == [
        '_acme-challenge.b.example. 0 IN TXT "three"'
    ]
    chain.present(FIRST)
    assert chain.ask("_acme-challenge.a.example.").rcode == Rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("name", "rtype", "fields"),
    [
        pytest.param("_acme-challenge.a.example.", "A", {}, id="another type"),
        pytest.param("a.example.", "TXT", {}, id="another name"),
        pytest.param("_acme-challenge.a.example.", "TXT", {"rclass": 3}, id="another class"),
        pytest.param("_acme-challenge.b.example.", "TXT", {}, id="no challenge in progress"),
    ],
)
def test_other_queries_go_to_the_next_plugin(name: str, rtype: str, fields: dict[str, Any]) -> None:
    chain = Chain()
    chain.present(FIRST, a_example=["one"])
    assert chain.ask(name, rtype, **fields).rcode == Rcode.NXDOMAIN


def test_the_fast_path_and_the_cold_path_stay() -> None:
    """Only TXT queries for the names of challenges go through the chain."""
    plugin, cold = Chain().plugin, ColdPath()
    assert plugin.join_fast_path(FastPath())
    assert plugin.join_cold_path(cold)
    (passes,) = cold.passes
    challenge = names.from_text("_acme-challenge.a.example.")
    assert passes(challenge, Type.TXT) is None
    assert passes(challenge, Type.A) == passes(names.from_text("a.example."), Type.TXT) == ()


def test_negative_answers_are_shared_elsewhere() -> None:
    plugin = Chain().plugin
    assert plugin.name_independent(names.from_text("cluster.local."))
    assert not plugin.name_independent(names.from_text("example."))


def test_only_acme_needs_a_handler() -> None:
    position = world.block("tls c k", "tls").directives[0].position
    assert not Tls.has_handler(Options(position, "c", "k"))
    assert Tls.has_handler(Options(position, managed=(FIRST,)))
    assert Tls.is_certificate(FIRST.data_key)
    assert not Tls.is_certificate(FIRST.challenges_key)
    assert Tls(Options(position), world.environment()).answers_like(Chain().plugin)
