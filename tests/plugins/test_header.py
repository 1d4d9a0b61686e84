"""The plugin *header*."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.header import Change, Header, Options
from svcdns.wire.codes import AA, RA, RD, Rcode
from tests.support import world


def test_changes_replies() -> None:
    """Header bits that the directive does not name are not changed."""
    header = Header(
        world.options("header", "header {\n response set ra AA\n response clear rd\n}"), world.environment()
    )
    assert world.now(header.handle(world.query("a."), world.following(Reply(flags=RD)))).flags == AA | RA
    untouched = rcode_only(Rcode.SERVFAIL, "nobody wrote")
    assert header.handle(world.query("a."), world.following(untouched)) is untouched


def test_changes_queries() -> None:
    """The next plugin gets the changed header bits, and a reply copies them."""
    header = Header(world.options("header", "header {\n query clear RD\n}"), world.environment())
    seen: list[int] = []

    def follow(query: Query) -> Answer:
        seen.append(query.flags)
        return Reply(flags=query.reply_flags)

    assert world.now(header.handle(world.query("a.", flags=RD), follow)).flags == 0
    assert seen == [0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("header {\n Query SET Rd\n}", Options(query=Change(RD)), id="case does not matter"),
        pytest.param(
            "header {\n response set ra\n response clear ra aa\n}",
            Options(response=Change(0, AA | RA)),
            id="the last word holds",
        ),
        pytest.param(
            "header {\n}\nheader {\n query set rd\n}", Options(query=Change(RD)), id="the first one with a rule"
        ),
    ],
)
def test_options(text: str, expected: Options) -> None:
    assert world.options("header", text) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("header", "2:1 header needs at least one line", id="no rule"),
        pytest.param("header {\n both set rd\n}", "3:2 unknown property 'both'", id="unknown direction"),
        pytest.param("header {\n query raise rd\n}", "3:8 unknown action 'raise'", id="unknown action"),
        pytest.param("header {\n query set tc\n}", "3:12 unknown flag 'tc'", id="unknown flag"),
        pytest.param("header {\n query set\n}", "3:8 Wrong argument count", id="no flag"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("header", text).startswith(error)
